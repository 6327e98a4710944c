"""`experiments.yaml` as a list of runs."""

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deft import launch
from deft.errors import ConfigError

ROOT = Path("/somewhere/runs")


def planned(**tree: Any) -> list[launch.Run]:
    return launch.runs(launch.config(tree), "sweep", ROOT)


def test_a_matrix_is_every_combination_with_the_defaults() -> None:
    found = planned(
        defaults={"task": "pusht", "data.path": "x.zarr", "train": {"steps": 5, "lr": "1e-3"}},
        matrix={"policy": ["bc", "flow"], "seed": [1, 2, 3]},
        overrides=["+a=b"],
    )
    assert [run.name for run in found] == [
        f"{policy}-seed_{seed}" for policy in ("bc", "flow") for seed in (1, 2, 3)
    ]
    assert found[4].words == (
        "task=pusht", "data.path=x.zarr", "train.steps=5", "train.lr=1e-3", "policy=flow",
        "seed=2", "+a=b",
    )  # fmt: skip
    assert found[4].labels == {"policy": "flow", "seed": "2"}
    assert found[4].folder == "/somewhere/runs/pusht/flow/flow-seed_2"


def test_runs_one_by_one_have_names_variables_and_gpus_of_their_own() -> None:
    first, second = planned(
        env={"A": 1, "B": None},
        runs=[
            {"policy": "bc", "optim.lr": 1e-3, "name": "quick", "env": {"A": "2"}},
            {"policy": "bc", "optim": {"lr": 2e-3}, "gpus_per_run": 2, "overrides": ["+x=y"]},
        ],
    )
    assert (first.name, first.env, first.gpus) == ("quick", {"A": "2", "B": ""}, 1)
    assert second.name == "lr_0.002"
    assert second.words == ("policy=bc", "optim.lr=0.002", "+x=y")
    assert (second.env, second.gpus) == ({"A": "1", "B": ""}, 2)


def test_names_follow_the_format() -> None:
    found = planned(
        matrix={"policy": ["bc"], "optim.lr": [0.1], "data.include": [["a b", "c"]]},
        name_format="{sweep}/{policy}_{lr}_{include}",
    )
    assert found[0].name == "sweep-bc_0.1_a-b+c"


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 1.5, 1e-9, "text", "with space", "a,b", "it's", "true", "12", "", "ü:{x}",
     "a\\b", "/p/q.zip", "$x", ["a b", 1, None], "1.5"],
)  # fmt: skip
def test_values_come_out_of_hydra_as_they_went_in(value: Any) -> None:
    parsed = OverridesParser.create().parse_override(f"key={launch.word(value)}")
    found = parsed.value()
    if isinstance(value, list):
        found = [str(each) if isinstance(each, str) else each for each in found]
    elif type(found).__name__ == "QuotedString":
        found = found.text.replace("\\'", "'")
    assert found == value


def test_what_yaml_takes_for_text_and_people_for_a_number_is_a_number() -> None:
    parsed = OverridesParser.create().parse_override(f"lr={launch.word('1e-3')}")
    assert parsed.value() == 1e-3


@pytest.mark.parametrize(
    ("tree", "answer"),
    [
        ({}, "no runs"),
        ({"matrix": {"seed": [1]}, "runs": [{"seed": 1}]}, "both"),
        ({"matrix": {"seed": 1}}, "list of values"),
        ({"matrx": {"seed": [1]}}, "Did you mean 'matrix'"),
        ({"matrix": {"seed": [1]}, "gpus": "all"}, "gpus is 'all'"),
        ({"matrix": {"seed": [1]}, "slots": 0}, "slots is 0"),
        ({"matrix": {"seed": [1, 1]}}, "Two runs"),
        ({"matrix": {"seed": [1, 2]}, "name_format": "x"}, "Two runs"),
        ({"matrix": {"seed": [1]}, "name_format": "{sed}"}, "Did you mean 'seed'"),
        ({"matrix": {"seed": [1]}, "defaults": {"session": "x"}}, "sets session"),
        ({"runs": [{"seed": 1, "gpus_per_run": 0}]}, "gpus_per_run is 0"),
        ({"runs": [{"seed": 1, "overrides": "a=b"}]}, "list of words"),
    ],
)
def test_mistakes_are_answered(tree: dict[str, Any], answer: str) -> None:
    with pytest.raises(ConfigError, match=answer) as caught:
        planned(**tree)
    assert "Fix:" in str(caught.value)


def test_an_older_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "multi_train.yaml"
    path.write_text("global: {num_steps: 3}\nmatrix: {algos: [bc], tasks: [a]}\n")
    with pytest.raises(ConfigError, match="--import-old"):
        launch.read(path)
    path.write_text("- 1")
    with pytest.raises(ConfigError, match="no settings"):
        launch.read(path)
