"""What store.json says: of a new store, and of one that has grown by a part."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any

from deft.spec import Problem, Spec
from deft.store.files import portable
from deft.store.layout import FORMAT, VERSION
from deft.store.parts import Part, folder_of


def begun(
    plan: Mapping[str, Any],
    spec: Spec,
    found: Mapping[str, Any],
    left_out: Mapping[str, str],
    problems: Sequence[Problem],
) -> dict[str, Any]:
    """Of a new store.

    Args:
        plan: config and provenance, plain.
        spec: the store's contract.
        found: what `Packer.pack` returned.
        left_out: ids in the order of the recording, and why.
        problems: findings to keep with it.
    """
    config = plan["config"]
    split = {**found["split"], "seed": config["split_seed"], "val_fraction": config["val_fraction"]}
    return sealed(
        {
            "format": FORMAT,
            "version": VERSION,
            "finished": True,
            "spec": spec.to_json(),
            "spec_digest": spec.digest(),
            "config": config,
            "provenance": plan["provenance"],
            **found,
            "split": split,
            "parts": [_part("", found, plan)],
            "stats": "stats.json",
            "left_out": _left_out(left_out),
            "problems": _problems(problems),
        }
    )


def grown(
    before: Mapping[str, Any],
    plan: Mapping[str, Any],
    found: Mapping[str, Any],
    kept: Sequence[str],
    left_out: Mapping[str, str],
    problems: Sequence[Problem],
) -> dict[str, Any]:
    """Of a store with one part more.

    Args:
        before: what store.json said.
        plan: provenance of the part, plain.
        found: what `Packer.pack` returned.
        kept: ids of the part.
        left_out: see `begun`; one that was left out before and is kept now is no longer.
        problems: see `begun`.
    """
    info: dict[str, Any] = deepcopy({key: before[key] for key in before if key != "digest"})
    folder = folder_of(len(info["parts"]))
    part = Part(folder, found["episodes"], found["steps"])
    info["version"] = VERSION
    info["episodes"] += found["episodes"]
    info["steps"] += found["steps"]
    split = info["split"]
    if split["from"] != found["split"]["from"]:
        split["from"] = "source and hash"
    for name, count in found["split"]["episodes"].items():
        split["episodes"][name] = split["episodes"].get(name, 0) + count
    for name, camera in found["frames"].items():
        held = info["frames"][name]
        held["shards"] += [
            {"file": part.file(shard["file"]), "first": shard["first"]}
            for shard in camera["shards"]
        ]
        as_is = held.get("kept_as_is", 0) + camera.get("kept_as_is", 0)
        if as_is:
            held["kept_as_is"] = as_is
    info["files"] |= {part.file(name): each for name, each in found["files"].items()}
    info["parts"].append(_part(folder, found, plan))
    info["stats"] = part.file("stats.json")
    now = _left_out(left_out)
    gone = {*kept, *(each["id"] for each in now)}
    info["left_out"] = [each for each in info["left_out"] if each["id"] not in gone] + now
    old = [each for each in info["problems"] if each["episode"] not in gone]
    info["problems"] = old + [each for each in _problems(problems) if each not in old]
    return sealed(info)


def sealed(info: dict[str, Any]) -> dict[str, Any]:
    """With its digest, which covers all of it and so, by their hashes, every file."""
    return info | {"digest": hashlib.sha256(canonical(info)).hexdigest()}


def canonical(data: Any) -> bytes:
    """The bytes that the store's digest is taken of."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _part(folder: str, found: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "folder": folder,
        "episodes": found["episodes"],
        "steps": found["steps"],
        "split_from": found["split"]["from"],
        "provenance": plan["provenance"],
    }


def _left_out(left_out: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"id": id_, "why": portable(why)} for id_, why in left_out.items()]


def _problems(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [{key: portable(text) for key, text in asdict(each).items()} for each in problems]
