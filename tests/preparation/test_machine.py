"""What a machine misses for a run, by given facts, and what this one says of itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sppo_ray.config import load_config
from sppo_ray.models import model_shape
from sppo_ray.planning.devices import slow_in_bf16
from sppo_ray.planning.work import kept_bytes
from sppo_ray.preparation.machine import Machine, disk, enough, machine, missing, slowing
from sppo_ray.sampling import has_flashinfer_sampler

CONFIG = load_config("gemma-2-9b-it")
ALL = ["generators", "rankers", "trainers"]
CPU = Machine(host_gib=1024, shared_gib=512, open_files=65536)
GPU = replace(CPU, gpus=8, gpu_gib=80.0, driver="580.95.05", capability=9.0, cuda="13.0")
OFFLOADED = load_config("gemma-2-9b-it", overrides=["training.offload=optimizer", "training.workers=8"])


def test_a_machine_that_has_all_has_nothing_to_say() -> None:
    assert missing(CONFIG, ALL, GPU, 8) == [] and slowing(CONFIG, ALL, GPU, 8, 200e9) == []
    assert missing(CONFIG, ALL, CPU, 8) == [] and slowing(CONFIG, ALL, CPU, 8, 200e9) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"driver": "570.124.06"}, "NVIDIA's driver is 570.124.06, PyTorch's CUDA 13.0 needs 580: install"),
        ({"cuda": None}, "PyTorch is a CPU build: pip install -r requirements/gpu.txt"),
        (
            {"capability": 7.5},
            "capability 7.5, bfloat16 needs 8: use a newer GPU, or policy.dtype=float32 in a new run",
        ),
        ({"capability": 7.0}, "capability 7, bfloat16 needs 8: use a newer GPU"),
        ({"compiler": False}, "no C compiler, with which Triton builds its launchers: install gcc"),
        ({"headers": False}, "no Python.h"),
        ({"sampler": False, "wants_sampler": True}, "VLLM_USE_FLASHINFER_SAMPLER=1, but no nvcc"),
        ({"shared_gib": 0.0625}, "/dev/shm has 0.06 GiB, NCCL and vLLM need 1: start the container with --shm-size"),
        ({"open_files": 1024}, "a process may open 1024 files: start Ray after `ulimit -n 65536`"),
    ],
)
def test_what_is_missing_is_one_line_with_its_remedy(facts: dict[str, object], words: str) -> None:
    (line,) = missing(CONFIG, ALL, replace(GPU, **facts), 8)
    assert words in line


def test_older_drivers_do_for_older_versions_of_cuda_and_float32_for_older_gpus() -> None:
    assert missing(CONFIG, ALL, replace(GPU, driver="535.183.01", cuda="12.8"), 8) == []
    exact = load_config("gemma-2-9b-it", overrides=["policy.dtype=float32"])
    assert missing(exact, ALL, replace(GPU, capability=7.5), 8) == []
    assert missing(CONFIG, ALL, replace(GPU, capability=None), 8) == []  # an old nvidia-smi does not say it


def test_roles_without_a_gpu_need_nothing_of_it() -> None:
    config = load_config("gemma-2-9b-it", overrides=["rankers.gpus=0"])
    assert missing(config, ["rankers"], replace(GPU, driver="470.1", cuda=None, headers=False), 8) == []


def test_offloaded_states_have_to_fit_in_host_memory() -> None:
    # RMSprop: 4 + 4 bytes of master weights and states, 2 + 4 of gradients: 14 of 9.24 billion, over 8 workers; 8 bytes for
    # the update of at most a billion of them each.
    fits, small = replace(GPU, host_gib=200), replace(GPU, host_gib=100)
    (line,) = missing(OFFLOADED, ALL, small, 8)
    assert line.startswith("8 train workers keep 180 GiB in host memory, it has 100: ")
    assert missing(OFFLOADED, ALL, small, 4) == []  # the others are on another node
    assert missing(OFFLOADED, ALL, fits, 8) == []
    (line,) = slowing(OFFLOADED, ALL, fits, 8, 0.0)  # 8 GiB per GPU for its engines
    assert line == "the plan expects 244 GiB in host memory, it has 200: it may run out"


def test_what_only_slows_is_no_problem() -> None:
    slow = replace(GPU, sampler=False)
    assert missing(CONFIG, ALL, slow, 8) == []
    (line,) = slowing(CONFIG, ALL, slow, 8, 0.0)
    assert "no nvcc and ninja" in line and "PyTorch's kernels" in line
    (line,) = slowing(CONFIG, ALL, replace(CPU, shared_gib=0.0625), 8, 2 * 2**30)
    assert line.startswith("/dev/shm has 0.1 GiB, Ray's objects may take 2.0")


def test_bfloat16_on_a_cpu_without_its_instructions_is_said_to_be_slow() -> None:
    old, on_cpus = replace(CPU, slow_bf16="AVX2"), load_config("playground")
    (line,) = slowing(on_cpus, ALL, old, 2, 0.0)
    assert "AVX2" in line and line.endswith("policy.dtype=float32 in a new run")
    assert slowing(on_cpus, ["rankers"], old, 2, 0.0) == slowing(on_cpus, ALL, CPU, 2, 0.0) == []
    assert slowing(CONFIG, ALL, replace(GPU, slow_bf16="AVX2"), 8, 0.0) == []  # GPUs compute
    assert slowing(load_config("playground", overrides=["policy.dtype=float32"]), ALL, old, 2, 0.0) == []


def test_only_an_x86_without_avx_512_is_slow_in_bfloat16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (slow_in_bf16() is None) == (torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT"))
    flags = "flags\t\t: fpu sse2 avx2 fma avx512f avx512dq avx512bw avx512vl\n"
    monkeypatch.setattr("sppo_ray.planning.devices.CPUINFO", tmp_path / "cpuinfo")
    for processor, has, found in (
        ("x86_64", flags, None),
        ("x86_64", flags.replace(" avx512vl", ""), "AVX2"),
        ("x86_64", "flags\t\t: fpu sse2\n", "SSE"),
        ("aarch64", "Features\t: asimd bf16\n", None),
    ):
        monkeypatch.setattr("platform.machine", lambda processor=processor: processor)
        (tmp_path / "cpuinfo").write_text(has)
        assert slow_in_bf16() == found


def test_a_disk_that_is_too_small_by_the_plan_s_bytes() -> None:
    kept = kept_bytes(CONFIG, model_shape(CONFIG.policy.model, "policy.model"))
    # 9.24 billion parameters. Two checkpoints of bf16 weights, float32 weights and RMSprop's mean; the recipe goes on from
    # snapshots, so no float32 weights stay; three policies in bf16.
    billions = {name: size / 9.2417e9 for name, size in kept.items()}
    assert billions == pytest.approx({"policies": 6, "checkpoints": 20, "masters": 0}, rel=1e-3)
    ((line,), []) = enough(kept, 3, "/runs/a", 100e9)
    assert line.startswith("/runs/a has 100.0 GB free, checkpoints and one policy take 203.3: choose a --run-dir with")
    ([], (line,)) = enough(kept, 3, "/runs/a", 210e9)
    assert "checkpoints and all policies take 240.3" in line and "storage.keep_snapshots=1" in line
    assert enough(kept, 3, "/runs/a", 250e9) == ([], [])


def test_a_run_folder_that_is_not_there_yet_is_measured_above_it(tmp_path: Path) -> None:
    assert disk(load_config(), tmp_path / "runs" / "new", tmp_path / "runs" / "new" / "checkpoints") == ([], [])


def test_this_machine_says_what_it_has() -> None:
    found = machine()
    assert found.host_gib > 1 and found.shared_gib > 0 and found.open_files != 0


def test_flashinfer_s_sampler_needs_nvcc_and_ninja_where_it_looks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cuda/bin/nvcc", "ninja"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert has_flashinfer_sampler()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "elsewhere"))
    assert not has_flashinfer_sampler()
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setenv("PATH", f"{tmp_path}/cuda/bin:{tmp_path}")
    assert has_flashinfer_sampler()
    monkeypatch.setenv("PATH", f"{tmp_path}/cuda/bin")
    assert not has_flashinfer_sampler()
