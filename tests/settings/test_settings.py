"""Settings: one file and the environment, every key, and what is wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from commandcenter.core.agent import Limits, Profile
from commandcenter.core.egress import policy
from commandcenter.core.errors import InputError
from commandcenter.core.external_checks import Demand
from commandcenter.core.merge_queue import Strategy
from commandcenter.core.prices import Price
from commandcenter.core.workspace import Resources
from commandcenter.settings import (
    AppAccount,
    Budget,
    ContainerSettings,
    DaggerSettings,
    ForgeAccount,
    Keep,
    MergeQueue,
    ProjectCheck,
    Provider,
    Settings,
    built_in,
    load,
)

Loader = Callable[..., Settings]

EVERYTHING = """
data_dir = "/data"
workers = 7
mode = "container"
poll_s = 2

[server]
host = "0.0.0.0"
port = 0

[roles]
work = "strong"
review = "none"

[limits]
tries = 5
review_rounds = 2
stops = 9

[profiles.strong]
agent = "shell"
model = "m"
command = "run-me"
environment = { MOOD = "good" }
programs = ["node"]
limits = { timeout_s = 60, idle_s = 5.5, output_bytes = 1000, turns = 3 }
egress = ["none"]
models = ["m", "m-*"]
provider = "other"

[profiles.claude]
model = "opus"

[checks.lint]
command = "ruff check {files}"
files = "*.py"
timeout_s = 30

[providers.anthropic]
base_url = "http://127.0.0.1:9"

[providers.other]
base_url = "http://other"
api_key_variable = "OTHER_KEY"
token_variable = "OTHER_TOKEN"

[prices."claude-sonnet-*"]
input = 3
output = 15.0
cache_read = 0.3

[egress]
allow = ["forge", "*.example.org:8443"]

[egress.addresses]
"mirror.example.org" = "10.1.2.3"

[sandbox]
isolation = "best-effort"
read_only = ["/opt/tools"]
path = ["/opt/tools/bin"]
memory_bytes = 268435456
disk_bytes = 536870912
cpus = 1.5

[merge_queue]
lanes = 2
changes_max = 20
strategy = "squash"
external_checks = "all"
external_checks_wait_s = 60

[container]
engine = "podman"
dockerfile = "ops/Dockerfile"
build_network = true

[dagger]
image = "registry.test/tools:1"
open_network = true

[forge]
kind = "github"
github_api = "https://ghe.example/api/v3"
github_token_variable = "GHE_TOKEN"
gitea_api = "https://git.example/gitea/api/v1"
gitea_token_variable = "FORGEJO_TOKEN"
gitlab_api = "http://127.0.0.1:8080/api/v4"
gitlab_token_variable = "GL_TOKEN"
labels = ["commandcenter", "agent"]
draft = true
keyring = "cc"
github_app_id = "Iv1.app"
github_app_private_key_file = "/keys/app.pem"
github_app_private_key_variable = "APP_KEY"
github_app_installation_id = 12
poll_s = 60
webhook_secret_file = "/keys/webhooks"
webhook_secret_variable = "HOOKS"
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    def read(text: str, **environ: str) -> Settings:
        config = tmp_path / "config.toml"
        config.write_text(text)
        return load(environ, config=config)

    return read


def test_nothing_configured_is_fine() -> None:
    settings = load({})
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8001, 4)
    assert (settings.mode, settings.work, settings.review) == ("local", "claude", "claude")
    assert settings.budget == Budget(3, 3, 8)
    assert settings.profiles == (Profile("claude", "claude"),)
    assert settings.forge.kind == "auto"
    assert settings.forge.accounts == {
        "github": ForgeAccount("https://api.github.com", "GITHUB_TOKEN"),
        "gitea": ForgeAccount("https://codeberg.org/api/v1", "GITEA_TOKEN"),
        "gitlab": ForgeAccount("https://gitlab.com/api/v4", "GITLAB_TOKEN"),
    }
    assert (settings.checks, settings.read_only, settings.path) == ((), (), ())
    assert settings.resources == Resources(4 * 2**30, 8 * 2**30, None)
    assert settings.isolation == "required"
    assert not settings.egress.allows
    assert settings.container == ContainerSettings("auto", "", "", "", False)
    assert settings.merge_queue == MergeQueue(1, 100, Strategy.MERGE, Demand.REQUIRED, 21600.0)
    assert settings.dagger == DaggerSettings("", False)
    assert settings.data_dir.is_absolute()


def test_every_key_is_read(loaded: Loader) -> None:
    settings = loaded(EVERYTHING)
    assert settings.data_dir == Path("/data")
    assert (settings.workers, settings.mode, settings.poll_s) == (7, "container", 2.0)
    assert (settings.host, settings.port) == ("0.0.0.0", 0)
    assert (settings.work, settings.review) == ("strong", "none")
    assert settings.budget == Budget(5, 2, 9)
    strong = settings.profile("strong")
    assert strong == Profile(
        *("strong", "shell", "m", "run-me", {"MOOD": "good"}, ("node",)),
        Limits(60.0, 5.5, 1000, 3),
        ("none",),
        ("m", "m-*"),
        "other",
    )
    assert settings.prices == (Price("claude-sonnet-*", 3.0, 15.0, 0.3, 3.0),)
    assert settings.egress == policy(
        ["forge", "*.example.org:8443"], {"mirror.example.org": "10.1.2.3"}
    )
    assert settings.profile("claude") == Profile("claude", "claude", "opus")
    assert settings.checks == (ProjectCheck("lint", "ruff check {files}", "*.py", 30.0),)
    assert settings.providers == (
        Provider("anthropic", "http://127.0.0.1:9", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"),
        Provider("other", "http://other", "OTHER_KEY", "OTHER_TOKEN"),
    )
    assert (settings.read_only, settings.path) == ((Path("/opt/tools"),), ("/opt/tools/bin",))
    assert settings.resources == Resources(268435456, 536870912, 1.5)
    assert settings.isolation == "best-effort"
    assert settings.container == ContainerSettings("podman", "", "ops/Dockerfile", "", True)
    assert settings.merge_queue == MergeQueue(2, 20, Strategy.SQUASH, Demand.ALL, 60.0)
    assert settings.dagger == DaggerSettings("registry.test/tools:1", True)
    assert settings.forge.kind == "github"
    assert (settings.forge.labels, settings.forge.draft) == (("commandcenter", "agent"), True)
    assert settings.forge.accounts == {
        "github": ForgeAccount("https://ghe.example/api/v3", "GHE_TOKEN"),
        "gitea": ForgeAccount("https://git.example/gitea/api/v1", "FORGEJO_TOKEN"),
        "gitlab": ForgeAccount("http://127.0.0.1:8080/api/v4", "GL_TOKEN"),
    }
    assert settings.forge.keyring == "cc"
    assert settings.forge.poll_s == 60
    assert settings.forge.webhook_secret_file == Path("/keys/webhooks")
    assert settings.forge.webhook_secret_variable == "HOOKS"
    assert settings.forge.app == AppAccount("Iv1.app", Path("/keys/app.pem"), "APP_KEY", 12)


def test_the_reviewer_is_the_working_profile_unless_it_is_named(loaded: Loader) -> None:
    text = '[profiles.mine]\nagent = "shell"\n[roles]\nwork = "mine"\n'
    assert loaded(text).review == "mine"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("worker = 3", "there is no setting `worker`", "did you mean `workers`?"),
        ("[servers]\nport = 1", "there is no setting `servers`", "did you mean `server`?"),
        ("[server]\nprot = 1", "[server]: there is no setting `prot`", "did you mean `port`?"),
        ("[roles]\nworker = 'x'", "no setting `worker`", "did you mean `work`?"),
        ("[limits]\ntrys = 1", "no setting `trys`", "did you mean `tries`?"),
        ("[sandbox]\nreadonly = []", "no setting `readonly`", "did you mean `read_only`?"),
        ("[sandbox]\nmemory = 1", "no setting `memory`", "did you mean `memory_bytes`?"),
        ("[merge_queue]\nlane = 2", "no setting `lane`", "did you mean `lanes`?"),
        ("[merge_queue]\nstrategy = 'sqash'", "cannot be `sqash`", "did you mean `squash`?"),
        ("[merge_queue]\nexternal_checks = 'any'", "cannot be `any`", "required, all, none"),
        ("[container]\nimages = 'x'", "no setting `images`", "did you mean `image`?"),
        ("[dagger]\nimages = 'x'", "no setting `images`", "did you mean `image`?"),
        ("[dagger]\ncaches = ['/etc']", "`/etc`, which is not below /home/agent", ".cache/pip"),
        ("[dagger]\ncaches = ['/home/agent/../x']", "which is not below", ".cache/pip"),
        ("[container]\nengine = 'dokcer'", "cannot be `dokcer`", "did you mean `docker`?"),
        ("[sandbox]\nisolation = 'off'", "cannot be `off`", "one of required, best-effort"),
        ("[profiles.a]\nprovider = 'antropic'", "provider `antropic`", "did you mean `anthropic`?"),
        ("[forge]\nkinds = 'hub'", "no setting `kinds`", "did you mean `kind`?"),
        ("[profiles.a]\nmodle = 'x'", "[a]: there is no setting `modle`", "`model`"),
        ("[profiles.a.limits]\nturn = 1", "no setting `turn`", "did you mean `turns`?"),
        ("[checks.a]\ncommand='x'\nfile='*'", "no setting `file`", "did you mean `files`?"),
        ("[providers.a]\nurl = 'x'", "no setting `url`", ""),
        ("zzz = 1", "there is no setting `zzz`", ""),
        (
            "[forge]\ngithub_app_private_key_file = 'a.pem'",
            "a GitHub App needs `github_app_id`",
            "Client ID",
        ),
        ("[forge]\nkind = 'githb'", "`kind` cannot be `githb`", "did you mean `github`?"),
        ("[forge]\nkind = 'x'", "`kind` cannot be `x`", "auto, hub, github, gitea, gitlab"),
        ("[roles]\nwork = 'cluade'", "no agent profile `cluade`", "did you mean `claude`?"),
        ("[roles]\nreview = 'x'", "no agent profile `x`", "profiles are: claude"),
    ],
)
def test_an_unknown_name_is_refused_with_a_guess(
    loaded: Loader, text: str, message: str, hint: str
) -> None:
    with pytest.raises(InputError) as refused:
        loaded(text)
    assert message in refused.value.message
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = '4'", "`workers` has the wrong type"),
        ("workers = true", "`workers` has the wrong type"),
        ("workers = 0", "`workers` must be at least 1"),
        ("mode = 1", "`mode` has the wrong type"),
        ("poll_s = 0", "`poll_s` must be more than 0"),
        ("poll_s = nan", "`poll_s` must be more than 0, and finite"),
        ("poll_s = inf", "`poll_s` must be more than 0, and finite"),
        ("server = 1", "[server] must be a table"),
        ("[container]\nbuild_network = 'yes'", "`build_network` must be true or false"),
        ("[container]\nimage='a'\ndockerfile='b'", "only one of `image`, `dockerfile`"),
        ("[server]\nport = -1", "`port` must be at least 0"),
        ("[server]\nport = 65536", "`port` must be at most 65535"),
        ("[limits]\ntries = 0", "`tries` must be at least 1"),
        ("[profiles.a.limits]\ntimeout_s = -1", "`timeout_s` must be more than 0"),
        ("[sandbox]\nmemory_bytes = 4096", "`memory_bytes` must be at least 67108864"),
        ("[sandbox]\ndisk_bytes = 4096", "`disk_bytes` must be at least 16777216"),
        ("[sandbox]\ncpus = 0", "`cpus` must be more than 0"),
        ("[profiles.a]\nprograms = [1]", "`programs` must be a list of strings"),
        ("[profiles.a]\nprograms = 'node'", "`programs` has the wrong type"),
        ("[profiles.a]\nenvironment = { A = 1 }", "`environment` must be a table of strings"),
        ("[prices.m]\ninput = 1", "[m]: a price needs `output`"),
        ("[prices.m]\ninput = -1\noutput = 1", "`input` must be more than 0"),
        ("[egress]\nallow = ['1.2.3.4']", "[egress]: `1.2.3.4` is no host that can be allowed"),
        ("[egress]\nallow = ['none', 'a.b']", "[egress]: `none` cannot stand beside other hosts"),
        ("[egress.addresses]\n'a.b' = 'c.d'", "[egress]: `a.b` cannot be at `c.d`"),
        ("[profiles.a]\negress = ['*']", "[a]: `*` is no host that can be allowed"),
        ("[checks.a]\nfiles = '*'", "[a]: a check needs a `command`"),
        ("[forge]\ngitea_api = 'http://git.example/api/v1'", "`gitea_api` must be an https://"),
        ("[forge]\ngitlab_api = 'https://u:p@a.b/api/v4'", "`gitlab_api` must be an https://"),
        ("[forge]\nlabels = ['a,b']", "`a,b`, which is no label"),
        ("[forge]\nlabels = [' ']", "which is no label"),
        ("[forge]\ngithub_api = 'git.example'", "`github_api` must be an https://"),
        ("workers = ", "Invalid value"),
    ],
)
def test_a_wrong_value_is_refused_and_named(loaded: Loader, text: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        loaded(text)
    assert message in refused.value.message


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(InputError, match="cannot be read"):
        load({}, config=missing)
    with pytest.raises(InputError, match="cannot be read"):
        load({"COMMANDCENTER_CONFIG": str(missing)})


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        load({}, config=config)


def test_the_environment_wins_over_the_file(loaded: Loader) -> None:
    settings = loaded(EVERYTHING, HOST="::1", PORT="80", COMMANDCENTER_DATA_DIR="/elsewhere")
    assert (settings.host, settings.port) == ("::1", 80)
    assert settings.data_dir == Path("/elsewhere")


def test_a_database_that_would_not_be_used_is_refused_without_its_password(
    loaded: Loader,
) -> None:
    for url in ("postgresql://me:secret@db/cc", "postgres+psycopg://me:secret@db/cc", "secret"):
        with pytest.raises(InputError, match="DATABASE_URL") as refused:
            loaded("", DATABASE_URL=url)
        assert "secret" not in f"{refused.value.message} {refused.value.hint}"
        assert "--data-dir" in refused.value.hint


def test_a_sqlite_database_of_an_earlier_pipeline_is_no_error(loaded: Loader) -> None:
    plain = loaded("")
    assert loaded("", DATABASE_URL="sqlite+aiosqlite:///./cc.db").data_dir == plain.data_dir


def test_a_machine_name_in_host_is_not_an_address(loaded: Loader) -> None:
    assert loaded("", HOST="build-7").host == "127.0.0.1"
    assert loaded("", HOST="localhost").host == "localhost"


@pytest.mark.parametrize("port", ["http", "65536", "-1", "80.5"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(InputError, match="is not a port"):
        load({"PORT": port})


def test_a_relative_data_folder_is_made_absolute() -> None:
    assert load({"COMMANDCENTER_DATA_DIR": "here"}).data_dir == Path.cwd() / "here"


def test_secrets_do_not_show(loaded: Loader) -> None:
    settings = loaded("", ANTHROPIC_API_KEY="sk-secret")
    assert settings.environ["ANTHROPIC_API_KEY"] == "sk-secret"
    assert "sk-secret" not in repr(settings)
    assert "sk-secret" not in str(settings)


def test_the_disks_floor_is_unset_or_what_is_said_and_none_at_all_is_fine(tmp_path: Path) -> None:
    floors = {"": None, "disk_free_min_bytes = 0": 0, "disk_free_min_bytes = 5": 5}
    for text, floor in floors.items():
        path = tmp_path / "config.toml"
        path.write_text(text)
        assert load({}, config=path).disk_free_min_bytes == floor


@pytest.mark.parametrize(
    "text", ["disk_free_min_bytes = -1", "[keep]\nlogs_days = -1", "[keep]\nlog_days = 1"]
)
def test_a_floor_or_an_age_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(InputError):
        load({}, config=path)


def test_how_long_things_are_kept_is_set_in_days(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[keep]\nlogs_days = 0\nsalvage_days = 7\nimages_days = 2\n")
    assert load({}, config=path).keep == Keep(logs_days=0, salvage_days=7, images_days=2)


def test_what_is_not_set_goes_without_saying(loaded: Loader) -> None:
    assert dict(loaded("").words) == {}
    assert set(built_in()) == {"review", "roles", "limits"}


def test_what_is_set_of_all_tasks_is_said_as_a_plan_would(loaded: Loader) -> None:
    text = """
[roles]
work = "second"
judge = "my judge"

[defaults]
pattern = "vote(3)"
handoff = "[claude]"

[limits]
tries = 2
review_rounds = 5
budget_usd = 2.5

[profiles.second]
[profiles."my judge"]
"""
    assert dict(loaded(text).words) == {
        "pattern": "vote(3)",
        "handoff": "[claude]",
        "review": "5",
        "roles": 'work=second, review=second, judge="my judge"',
        "limits": "attempts=2, budget_usd=2.5",
    }


def test_no_review_is_said_as_a_plan_would(loaded: Loader) -> None:
    assert dict(loaded('[roles]\nreview = "none"').words) == {"review": "none"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[defaults]\npattern = "voet(3)"', "`pattern`: there is no pattern `voet`"),
        ('[defaults]\nhandoff = ""\npatern = "single"', "no setting `patern`"),
        ('[roles]\njudge = "nobody"', "no agent profile `nobody`"),
        ('[roles]\njudge = "none"', "no agent profile `none`"),
        ('[roles]\njugde = "claude"', "no setting `jugde`"),
        ("[limits]\nreview_rounds = 21", "must be at most 20"),
    ],
)
def test_a_wrong_word_on_how_agents_work_together_is_refused(
    loaded: Loader, text: str, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        loaded(text)

    assert message in refused.value.message
