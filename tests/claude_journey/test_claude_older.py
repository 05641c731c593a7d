"""A Claude Code CLI that is too old to hold an answer to a schema."""

from __future__ import annotations

import json
from pathlib import Path

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.testing import claude_code
from commandcenter.testing.desk import Desk
from commandcenter.testing.scene import Sample, batch, plan, task

ROUTE = json.dumps({"profile": "claude", "reason": "It is the one."})
OLDER = f"""\
#!/bin/sh
case " $* " in *" --json-schema "*)
  echo "error: unknown option '--json-schema'" >&2
  exit 1
esac
echo done > made.txt
if grep -q "# Routing"; then
  echo '{json.dumps({"type": "result", "subtype": "success", "result": ROUTE})}'
else
  echo '{json.dumps({"type": "result", "subtype": "success", "result": "Done."})}'
fi
"""
MORE = '[profiles.second]\nagent = "claude"\n'


async def test_a_cli_that_knows_no_schema_is_asked_without_one(tmp_path: Path) -> None:
    # In a folder that everybody may enter, as the agent's user does.
    older = tmp_path / "older" / "claude"
    older.parent.mkdir(mode=0o755)
    older.write_text(OLDER)
    older.chmod(0o755)
    sample = await Sample.make(tmp_path / "sample")
    folder = tmp_path / "own"
    installation = claude_code.installation(folder, older, "http://127.0.0.1:9", MORE)
    pattern = {"Pattern": "route(claude, second, by=agent)", "Review": "none"}
    text = plan(batch(1, task("1.1", "Make it", files=["made.txt"], fields=pattern)))

    settings = installation.settings(**claude_code.environment(folder))
    async with running(settings, host="127.0.0.1", port=0, api=create_api) as service:
        ended = await Desk(service.url, installation, tmp_path).run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    route, _ = ended.data("task.answered", "1.1")
    assert (route["outcome"], route["problem"]) == ("done", "")
    (concluded,) = ended.data("task.concluded", "1.1")
    assert concluded["facts"]["route"]["reason"] == "It is the one."
