"""Files of prompts: every kind reads alike, and what cannot be read whole is refused by file and line."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sppo_ray.errors import PromptError
from tests.prompts.tables import read, texts, write

ODD = [
    "None",
    "NA",
    "123",
    "a \x00 zero",
    "emoji 👩‍👩‍👧",
    "שלום",
    'a "quote", a comma',
    "two\nlines",
    "sep\u2028arator",
    " x ",
]


@pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow"])
def test_every_kind_of_file_gives_the_same_prompts_unharmed(tmp_path, ending):
    rows = [{"prompt_id": f"{i:02}", "prompt": text} for i, text in enumerate(ODD)]
    result = read(write(tmp_path / f"odd{ending}", rows))
    assert {prompt.prompt_id: prompt.text for prompt in result.prompts} == {
        f"{i:02}": text for i, text in enumerate(ODD)
    }
    assert (result.duplicates, result.skipped) == (0, [])


def test_a_compressed_file_is_read_as_the_file_itself(tmp_path):
    whole = gzip.compress(b'{"prompt": "a"}\n{"prompt": "b"}\n')
    (tmp_path / "data.jsonl.gz").write_bytes(whole)
    assert texts(read(tmp_path / "data.jsonl.gz").prompts) == ["a", "b"]
    assert texts(read(tmp_path, split="data").prompts) == ["a", "b"]
    (tmp_path / "data.jsonl.gz").write_bytes(whole[:-9])
    with pytest.raises(PromptError, match=r"data.jsonl.gz cannot be read .*compress it again"):
        read(tmp_path / "data.jsonl.gz")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.jsonl", b"\n \n", "it is empty"),
        ("a.csv", b"prompt\n", "a.csv has columns but no rows"),
        ("a.txt", b"Hello", "a.txt is none of the kinds .* .jsonl, .json, .csv, .parquet"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": \n', "line 3 is not JSON .*write one"),
        ("a.jsonl", b'{"prompt": "a"}\n["b"]\n', "line 2 is a list, not an object"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n', r"line 2 is not UTF-8 \(byte 31 .* 0xe9\): save"),
        ("a.csv", b"prompt\n\xff\n", r"line 2 is not UTF-8 \(byte 7 "),
        ("a.csv", b'id,prompt\n1,"two\nlines"\n2,a,b\n', "line 4 has 3 fields where the header has 2"),
        ("a.csv", b'id,prompt\n1,"open\n', "line 2 is not CSV"),
        ("a.csv", b"prompt,id,prompt\na,1,b\n", "more than one column 'prompt': rename"),
        ("a.parquet", b"junk", "a.parquet: its Parquet table cannot be read"),
        ("a.arrow", b"junk", "a.arrow: its Arrow table cannot be read"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
        ("a.json", b'{"prompt": {"0": "a", "1": "b"}}', "holds columns, not a list of rows.*orient='records'"),
        ("a.json", b'{"columns": ["prompt"], "index": [0], "data": [["a"]]}', "holds columns, not a list of rows"),
        ("a.json", b'{"train": [{"prompt": "a"}], "test": [{"prompt": "b"}]}', r"several tables \(train, test\)"),
        ("a.json", b'["Name a fruit."]', "row 1 is a str, not an object: write one"),
        ("a.json", b"[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=problem) as raised:
        read(str(tmp_path / name))
    assert str(tmp_path / name) in str(raised.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffprompt\r\nHello\r\n".encode())
    assert texts(read(str(tmp_path / "a.csv")).prompts) == ["Hello"]


def test_a_csv_text_may_be_long(tmp_path):
    assert len(read(write(tmp_path / "a.csv", [{"prompt": "x" * 200_000}])).prompts[0].text) == 200_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.JSONL", b'{"prompt": "Hello"}'),
        ("a.jsonl", b'\xef\xbb\xbf{"prompt": "Hello"}\r\n\r\n'),
        ("a.jsonl", '{"prompt": "Hello"}'.encode("utf-16")),
        ("a.json", b'{\n "prompt": "Hello"\n}'),
        ("a.json", b'{"version": 1, "data": [{"prompt": "Hello"}]}'),
        ("a.json", b'{"prompt": "Hello", "models": [{"text": "not a row"}]}'),
        ("a.json", b'{"schema": {"fields": []}, "data": [{"prompt": "Hello"}]}'),
        ("a.json", b'{"messages": [{"role": "user", "content": "Hello"}]}'),
        ("a.csv", b"id, prompt\n1, Hello\n"),
        ("a.csv", b"prompt;id\nHello;1\n"),
        ("a.tsv", b"prompt\tid\nHello\t1\n"),
    ],
)
def test_files_as_other_programs_write_them(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert texts(read(tmp_path / name).prompts) == ["Hello"]


def test_a_parquet_file_with_one_column_twice_is_refused(tmp_path):
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["prompt", "prompt"]), tmp_path / "a.parquet"
    )
    with pytest.raises(PromptError, match="more than one column 'prompt'"):
        read(tmp_path / "a.parquet")


def test_an_arrow_file_may_have_an_index_at_its_end(tmp_path):
    table = pa.table({"prompt": ["Hello"]})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert texts(read(tmp_path / "a.arrow").prompts) == ["Hello"]
