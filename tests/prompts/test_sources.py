"""Where prompts lie: files, folders as `datasets` finds them, saved data sets, the hub."""

from pathlib import Path

import datasets
import pytest

from sppo_ray.config import PromptSource
from sppo_ray.errors import PromptError
from sppo_ray.prompts import iteration_prompts, sources
from sppo_ray.prompts.sources import is_hub_name
from tests.prompts.tables import numbered, read, texts, write

TWO = ["two\nlines", " x "]


def test_a_saved_data_set_gives_its_prompts_unharmed(tmp_path):
    datasets.Dataset.from_list([{"prompt": text} for text in TWO]).save_to_disk(str(tmp_path / "odd"))
    assert texts(read(str(tmp_path / "odd")).prompts) == sorted(TWO)


def test_a_hub_name_is_loaded_by_its_split(monkeypatch):
    calls = []

    def load_dataset(name, split):
        calls.append((name, split))
        return datasets.Dataset.from_list([{"instruction": "Hello"}])

    monkeypatch.setattr(sources.datasets, "get_dataset_split_names", lambda name: ["train"])
    monkeypatch.setattr(sources.datasets, "load_dataset", load_dataset)
    assert texts(read("openbmb/UltraFeedback").prompts) == ["Hello"]
    assert calls == [("openbmb/UltraFeedback", "train")]


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch):
    def offline(name):
        raise ConnectionError("Couldn't reach 'org/name' on the Hub")

    monkeypatch.setattr(sources.datasets, "get_dataset_split_names", offline)
    with pytest.raises(PromptError, match=r"org/name is neither a file or folder here .*reach.*save_to_disk"):
        read("org/name")


@pytest.mark.parametrize("source", ["none.jsonl", "./none", "/no/such/folder", "folder/none.parquet"])
def test_a_missing_source_is_named(source):
    with pytest.raises(PromptError, match=f"{source}: no such file or folder"):
        read(source)


def test_a_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("Hello")
    with pytest.raises(PromptError, match="holds neither a data set saved by `save_to_disk` nor files"):
        read(str(tmp_path))


def test_a_damaged_saved_data_set_is_named(tmp_path):
    datasets.Dataset.from_list([{"prompt": "a"}]).save_to_disk(str(tmp_path))
    next(Path(tmp_path).glob("*.arrow")).write_bytes(b"junk")
    with pytest.raises(PromptError, match="its data set cannot be read"):
        read(str(tmp_path))


def test_a_plain_folder_has_its_files_as_splits(tmp_path):
    for t in (1, 2, 3):
        write(tmp_path / f"train_iteration_{t}.jsonl", numbered(3, start=10 * t))
    write(tmp_path / "held_out.jsonl", numbered(2))
    result = iteration_prompts(PromptSource(source=str(tmp_path), split="train_iteration_{iteration}"), 3, seed=42)
    assert [texts(part) for part in result.iterations] == [
        [f"Prompt {10 * t + i}" for i in range(3)] for t in (1, 2, 3)
    ]
    assert texts(read(str(tmp_path), split="held_out").prompts) == ["Prompt 0", "Prompt 1"]
    with pytest.raises(PromptError, match="has no split 'test': it has held_out, train_iteration_1"):
        read(str(tmp_path), split="test")
    with pytest.raises(PromptError, match="is one file and has no split 'train': leave prompts"):
        read(str(tmp_path / "held_out.jsonl"), split="train")


def prompts(*values: str) -> list[dict]:
    return [{"prompt": value} for value in values]


def shards(folder: Path, split: str, *values: str) -> None:
    for number, value in enumerate(values):
        write(folder / f"{split}-{number:05}-of-{len(values):05}.parquet", prompts(value))


def test_a_split_is_read_with_all_its_shards(tmp_path):
    shards(tmp_path, "train", "a", "b")
    assert texts(read(tmp_path).prompts) == texts(read(tmp_path, split="train").prompts) == ["a", "b"]
    shards(tmp_path, "test", "c")
    assert texts(read(tmp_path, split="train").prompts) == ["a", "b"]
    with pytest.raises(PromptError, match=r"needs prompts\.split: it has test, train;"):
        read(tmp_path)


def test_a_folder_may_be_relative_or_a_link(tmp_path, monkeypatch):
    shards(tmp_path / "real", "train", "a", "b")
    shards(tmp_path / "real/more", "test", "c", "d")
    (tmp_path / "real/not_a_file.json").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for name in ("real", "link"):
        assert texts(read(name, split="train").prompts) == ["a", "b"]
        assert texts(read(name, split="test").prompts) == ["c", "d"]


def test_a_shard_that_is_missing_is_said(tmp_path):
    shards(tmp_path, "train", "a", "b")
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(PromptError, match=r"train-\*: 1 of 2 files are there"):
        read(tmp_path)


def test_a_copy_from_the_hub_is_read_by_its_splits(tmp_path):
    (tmp_path / "README.md").write_text("---\n---\n")
    (tmp_path / ".gitattributes").write_text("")
    shards(tmp_path / "data", "train_prefs", "a", "b")
    shards(tmp_path / "data", "test_prefs", "c")
    assert texts(read(tmp_path, split="train_prefs").prompts) == ["a", "b"]
    with pytest.raises(PromptError, match=r"it has test_prefs, train_prefs"):
        read(tmp_path)


def test_the_folders_of_a_data_set_may_be_its_splits(tmp_path):
    write(tmp_path / "train/one.jsonl", prompts("a"))
    write(tmp_path / "train/two.jsonl", [{"prompt": "b", "extra": {"k": 1}}])
    write(tmp_path / "test/one.jsonl", prompts("c"))
    assert texts(read(tmp_path, split="train").prompts) == ["a", "b"]


def test_the_files_of_spark_are_one_table(tmp_path):
    for number, value in enumerate("abc"):
        write(tmp_path / f"part-{number:05}.snappy.parquet", prompts(value))
    (tmp_path / "_SUCCESS").touch()
    assert texts(read(tmp_path).prompts) == ["a", "b", "c"]


def test_what_describes_a_data_set_is_no_split_of_it(tmp_path):
    write(tmp_path / "train.parquet", prompts("a"))
    (tmp_path / "dataset_infos.json").write_text('{"default": {}}')
    assert texts(read(tmp_path).prompts) == ["a"]


def test_a_bad_row_of_several_files_is_named_with_its_file(tmp_path):
    shards(tmp_path, "train", "a", " ")
    with pytest.raises(PromptError, match=r"'prompt': train-00001-of-00002\.parquet, row 1 is empty"):
        read(tmp_path)


@pytest.fixture
def configurations(tmp_path) -> Path:
    write(tmp_path / "a/train.jsonl", prompts("x"))
    write(tmp_path / "b/train.jsonl", prompts("y"))
    listed = "".join(f"- config_name: {name}\n  data_files: {name}/train.jsonl\n" for name in "ab")
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")
    return tmp_path


def test_a_data_set_of_several_configurations_needs_one(configurations):
    assert texts(read(configurations, subset="b").prompts) == ["y"]
    with pytest.raises(PromptError, match=r"available configs: \['a', 'b'\].*: set prompts\.subset") as raised:
        read(configurations)
    assert "\n" not in str(raised.value)
    with pytest.raises(PromptError, match=r"'c' not found. Available: .*: set prompts.subset"):
        read(configurations, subset="c")
    with pytest.raises(PromptError, match=r"is one file and has no subset 'a': leave prompts.subset out"):
        read(configurations / "a/train.jsonl", subset="a")


def test_a_data_set_that_needs_a_script_is_refused_in_one_line(tmp_path):
    write(tmp_path / "mine/a.json", prompts("a"))
    write(tmp_path / "mine/b.json", prompts("b"))
    (tmp_path / "mine/mine.py").write_text("import datasets\n")
    with pytest.raises(PromptError, match=r"scripts are no longer supported.*: set prompts\.subset or") as raised:
        read(tmp_path / "mine")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Dataset scripts are no longer supported"),
        datasets.exceptions.DatasetGenerationError("An error occurred\nwhile generating the dataset"),
        datasets.exceptions.DatasetNotFoundError("is a gated dataset"),
        ImportError("needs torchcodec"),
    ],
)
def test_whatever_the_hub_raises_is_one_line(monkeypatch, error):
    def load_dataset(*args, **settings):
        raise error from ValueError("couldn't cast")

    monkeypatch.setattr(sources.datasets, "get_dataset_split_names", lambda name, subset: ["train"])
    monkeypatch.setattr(sources.datasets, "load_dataset", load_dataset)
    with pytest.raises(PromptError, match=r"org/name .* couldn't cast\): correct prompts\.source") as raised:
        read("org/name", subset="main")
    assert "\n" not in str(raised.value)


def test_a_name_of_the_hub_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert is_hub_name("org/name") and is_hub_name("squad")
    assert not any(
        map(is_hub_name, ["mine", "data/prompts.json", "a.csv", "./org/name", "/org/name", "~/name", "a/b/c"])
    )


def test_a_folder_that_datasets_takes_for_a_pattern_is_named(tmp_path):
    shards(tmp_path / "a[1]/data", "train", "a", "b")
    with pytest.raises(PromptError, match="rename the folder"):
        read(tmp_path / "a[1]")
