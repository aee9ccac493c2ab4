"""The pass over a folder of images names the damaged ones, by split, and says so with its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pwfn.dataset.checking import unreadable
from pwfn.report.__main__ import main


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32), (200, 30, 90)).save(tmp_path / split / name / "0.png")
    return tmp_path


def test_whole_images_are_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", str(root)]) == 0
    assert capsys.readouterr().out == "0 of 4 images cannot be read\n"


def test_damaged_images_are_listed_by_split(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (root / "val" / "b" / "0.png").read_bytes()
    (root / "val" / "b" / "0.png").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "a" / "1.JPEG").write_text("no image")
    (root / "train" / "a" / "notes.txt").write_text("no image either, and none by its name")
    assert [path.name for path, problem in unreadable(root) if problem] == ["1.JPEG", "0.png"]
    assert main(["check-data", str(root)]) == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{root}/train/a/1.JPEG: cannot identify") and second.startswith(f"{root}/val/b/0.png: ")
    assert last == "2 of 5 images cannot be read (train: 1, val: 1)"


def test_a_folder_without_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", str(tmp_path)]) == 1
    assert "no images below" in capsys.readouterr().err
