"""``rankzero sync --verify`` reads metrics back from W&B."""

import json

from plugins.verifying import RUN_ID
from servers.wandb_mock.run import HISTORY


def test_differences_are_found_and_nothing_is_changed(server, environment, use_environment, verifying):
    use_environment("WANDB_", environment)
    assert f" at {server.url}: no difference" in verifying.deliver("wandb", "prefix=try")
    stored = server.run(RUN_ID)
    lines = stored.streams[HISTORY]
    rows = [json.loads(line) for line in lines.values()]
    number = {row["trainer/global_step"]: number for number, row in zip(lines, rows, strict=True) if "try-nan" in row}
    first = rows[number[0]]
    lines[number[7]] = lines[number[7]].replace("try-loss", "try-other")
    lines[number[3]] = json.dumps({**rows[number[3]], "try-loss": 0.25})
    again = {name: first[name] for name in ("try-loss", "trainer/global_step", "_timestamp")}
    lines[max(lines) + 1] = json.dumps({**again, "_step": rows[-1]["_step"] + 1})
    before, received = (stored.state, stored.raw_config, dict(lines)), len(server.requests)
    verifying.expect_differences()
    asked = [request.name for request in server.requests[received:]]
    assert asked
    assert (stored.state, stored.raw_config, lines) == before


def test_a_reserved_name(server, environment, use_environment, verifying, swallowed_warnings):
    use_environment("WANDB_", environment)
    verifying.deliver("wandb", more=["_step"])
    swallowed_warnings.clear()
