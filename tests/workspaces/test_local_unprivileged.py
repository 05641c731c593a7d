"""Contracts are kept when the service is an ordinary user."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import commandcenter
from commandcenter.system import process

NOBODY = 65534
TESTS = Path(__file__).parents[1]
WHERE_USERS_DIFFER = {
    "workspaces/test_local_contract.py": (
        "TestOverlay and (reached or power or own_places or fork_bomb or daemon or killed_one or "
        "removes_everything or persist or gateway or egress or git_starts or vault or gigabyte)"
    ),
    "workspaces/test_local_limits.py": "(memory and watched) or locked or removed or nice",
    "workspaces/test_fallback_contract.py": (
        "reached or own_places or fork_bomb or daemon or wherever or removes_everything"
    ),
    # Of killed2, what an ordinary user's command leaves cannot be told from others.
    "workspaces/test_fallback_supervision.py": "killed0 or killed1 or answer",
    "security/test_fallback_ways.py": "way",
    "security/test_fallback_attacks.py": "within",
    "security/test_local_egress.py": "reached and not control",
    "workspaces/test_dagger_contract.py": "power or own_places or (egress and model)",
    "security/test_local_attacks.py": "TestOverlay and (within or (on_what_is_shared and objects))",
}
# The interpreter may lie in a home that only root may enter. In a mount namespace of its own the
# user sees it there, and nothing else of that home.
AS_NOBODY = """
set -e
base=$1; closed=/$(echo "$base" | cut -d/ -f2); shift
if ! setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$base/bin"; then
    mount -t tmpfs none /mnt && mkdir /mnt/base && mount --bind "$base" /mnt/base
    mount -t tmpfs -o mode=755 none "$closed" && mkdir -p "$base"
    mount --bind /mnt/base "$base"
fi
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's own folder, which only its user may enter.
    folder = Path("/var/tmp") / f"commandcenter-nobody-{os.getpid()}"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow(minutes=2)
@pytest.mark.skipif(os.geteuid() != 0, reason="these tests already run as an ordinary user")
@pytest.mark.parametrize("module", WHERE_USERS_DIFFER)
async def test_an_ordinary_user_gets_the_same(folder: Path, module: str) -> None:
    tests = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(TESTS / module))
    options = (
        *("-k", WHERE_USERS_DIFFER[module]),
        *("--basetemp", str(folder / "t")),
        *("--rootdir", str(folder)),
    )
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(commandcenter.__file__).parents[1]),
    }

    settings = ("-c", str(TESTS.parent / "pyproject.toml"))
    script = ("unshare", "-m", "sh", "-c", AS_NOBODY, "sh", sys.base_prefix)
    done = await process.run(
        (*script, *tests, *options, *settings), environment=environment, timeout_s=170
    )

    assert done.exit_code == 0, done.stdout.decode()[-6000:] + done.stderr.decode()[-2000:]
