"""Pictures of the size that the training data was recorded at, before the server and in process."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deft import bundle, policies, serve, wire
from deft.errors import ShapeError
from deft.spec import Observation
from deft.transforms import resize_as, resized_feature
from suites import tiny
from suites.probe import PROBE_SPEC, ProbeActor

LARGE = replace(PROBE_SPEC["cam"], shape=(48, 100, 3))
SMALL = resized_feature(LARGE, 24, 32, "pad", "lanczos")
SPEC = replace(PROBE_SPEC, features=(SMALL, *PROBE_SPEC.features[1:]))


def look(shape: tuple[int, ...] = LARGE.shape) -> Observation:
    noise = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    return {"cam": noise, "state": np.zeros((1, 3), np.float32)}


@pytest.mark.parametrize("images", ["raw", "jpeg"])
def test_a_server_resizes_as_is_recorded(images: Any) -> None:
    seen = look()
    server = serve.Server(ProbeActor(SPEC), serve.ServeConfig(port=0), name="probe", bundle="d")
    with server.background() as url, wire.connect(url, images=images) as actor:
        answer = actor.act(seen).actions[0, 1]
        fitting = {**seen, "cam": resize_as(SMALL, seen["cam"])}
        assert actor.act(fitting).actions[0, 1] == pytest.approx(answer, abs=1.5)
        with pytest.raises(ShapeError, match=r"48, 99|24, 32"):
            actor.act(look((48, 99, 3)))
    exact = resize_as(SMALL, seen["cam"]).mean()
    assert answer == pytest.approx(exact, abs=0.001 if images == "raw" else 1.5)


def test_a_policy_in_process_does_the_same() -> None:
    small = resized_feature(replace(tiny.DATA_SPEC["image"], shape=(40, 48, 3)), 16, 24, "crop")
    data = replace(tiny.DATA_SPEC, features=(small, *tiny.DATA_SPEC.features[1:]))
    policy = tiny.policy("bc")
    policy.spec = policies.contract(tiny.CONFIGS["bc"], data)
    actor = bundle.PolicyActor(policy.eval())
    seen = tiny.observation(policy.spec, 0)
    large = np.random.default_rng(1).integers(0, 256, (len(seen["image"]), 40, 48, 3), np.uint8)
    wanted = actor.act_many([{**seen, "image": resize_as(small, large)}], [0])[0]
    found = actor.act_many([{**seen, "image": large}], [0])[0]
    np.testing.assert_array_equal(found.actions, wanted.actions)
    assert not np.array_equal(actor.act_many([seen], [0])[0].actions, wanted.actions)
