"""What tests share: the playground, one Ray, one set of engines."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from sppo_ray import playground as world
from sppo_ray.playground import Playground


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """vLLM's engines first: once numba is loaded into a process, vLLM 0.32 fails while it looks through all modules.

    `make test` has two processes and gives each the next file; `--no-loadscope-reorder` keeps this order.
    """
    items.sort(key=lambda item: "tests/sampling/" not in str(item.path))


@pytest.fixture(scope="session")
def playground() -> Playground:
    """The built-in world, built once and cached as for users."""
    return world.build()


@pytest.fixture(scope="session", autouse=True)
def token() -> None:
    """Ray's token of this user, which the clusters that tests start in other processes ask for."""
    command = [Path(sys.executable).with_name("ray"), "get-auth-token", "--generate"]
    subprocess.run(command, env=os.environ | {"RAY_AUTH_MODE": "token"}, check=True, capture_output=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One local Ray for all tests that need one."""
    ray.init(address="local", num_cpus=4, include_dashboard=True, log_to_driver=False, logging_level="warning")
    yield
    ray.shutdown()


@contextmanager
def engines_as_children() -> Iterator[None]:
    """vLLM's engines in child processes, as on GPUs. It keeps the environment that the first engine of a process started with."""
    from vllm import envs

    envs.disable_envs_cache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        yield
    envs.disable_envs_cache()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
