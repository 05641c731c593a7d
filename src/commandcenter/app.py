"""The composition root: settings in, a running service out. No logic."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from commandcenter.core.attempt import Bounds
from commandcenter.core.devcontainer import Recipe
from commandcenter.core.errors import AlreadyRunning, DiskFull, InputError
from commandcenter.core.forge import Forge
from commandcenter.core.run import Finding
from commandcenter.core.webhook import place
from commandcenter.core.workspace import Workspaces
from commandcenter.forges.github import GitHub
from commandcenter.forges.inspection import findings
from commandcenter.forges.opening import open_app, open_remote, remote_of
from commandcenter.forges.tokens import Tokens, find_tokens, named_tokens
from commandcenter.gateway.credentials import ApiKey, Provider, SubscriptionToken
from commandcenter.gateway.egress import EgressProxy
from commandcenter.gateway.model import ModelGateway
from commandcenter.gateway.registries import PackageManagers
from commandcenter.hub import HubRepository, create_hub
from commandcenter.service import Service
from commandcenter.service.doctor import Doctor, disk_of, find_program
from commandcenter.service.webhooks import Webhooks, webhook_secret
from commandcenter.settings import Settings
from commandcenter.stages import Stages
from commandcenter.stages.equipment import Crews, Equipment, Vaults
from commandcenter.stages.logs import Logs
from commandcenter.stages.plans import Plans
from commandcenter.store import database, views
from commandcenter.store.hub import HubStore
from commandcenter.system import durable
from commandcenter.system.git import Git
from commandcenter.workspaces.container import Container
from commandcenter.workspaces.dagger import Dagger
from commandcenter.workspaces.local import Local

if TYPE_CHECKING:
    from commandcenter.flow import Flow

HUB_OWNER = "commandcenter"
HUB_USER = "commandcenter"
HUB_PATH = "/hub"
HUB_TOKEN = "hub-token"  # noqa: S105 - the name of a file
HUB_PERSON_TOKEN = "hub-token-person"  # noqa: S105 - the name of a file
LOCK = "owner.lock"
LOCK_TRIES = 5
LOCK_PAUSE_S = 0.02
ROOM_MIN_BYTES = 4 * 2**20
"""What a service needs of a disk to start."""


@dataclass(frozen=True)
class Running:
    """A service that works and answers."""

    service: Service
    url: str


@asynccontextmanager
async def running(
    settings: Settings, *, host: str, port: int, api: Callable[[Service], ASGIApp]
) -> AsyncIterator[Running]:
    """Run a service on its data folder until the block ends; port 0 is any free one.

    Raises:
        AlreadyRunning: another live service owns the data folder.
        InputError: the port is taken, the data folder cannot be used, or there is no fitting git.
        DiskFull: there is no room to work in.
    """
    with _owning(settings), _listening(host, port) as listening:
        _require_room(settings.data_dir)
        secret = webhook_secret(settings.forge, settings.environ)
        url = f"http://{_authority(host)}:{listening.getsockname()[1]}"
        parts = _Parts(settings, url, await find_tokens(settings.forge, settings.environ))
        flow = parts.flow()
        service = parts.service(flow, parts.webhooks(flow, secret))
        web = Starlette(
            routes=[Mount(HUB_PATH, parts.hub()), Mount("/", api(service))],
        )
        async with _served(web, listening):
            try:
                await parts.require()
                await flow.start()
                _announce(settings, url)
                yield Running(service, url)
            finally:
                _withdraw(settings)
                await flow.stop()
                await parts.aclose()


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Service]:
    """Give a service that only reads, for when none is running."""
    _make_data_dir(settings)
    parts = _Parts(settings, "")
    try:
        yield parts.service(None)
    finally:
        await parts.aclose()


@asynccontextmanager
async def reading_hub(settings: Settings) -> AsyncIterator[ASGIApp]:
    """Give the hub for when no service is running."""
    _make_data_dir(settings)
    parts = _Parts(settings, "")
    try:
        yield Starlette(routes=[Mount(HUB_PATH, parts.hub())])
    finally:
        await parts.aclose()


@asynccontextmanager
async def owning(settings: Settings) -> AsyncIterator[Service]:
    """Give a service that has the data folder to itself, and works on no run.

    Raises:
        AlreadyRunning: another live service owns the data folder.
    """
    with _owning(settings):
        parts = _Parts(settings, "")
        try:
            yield parts.service(None, owns=True)
        finally:
            await parts.aclose()


class _Parts:
    """Everything that is made once, in the order in which it is needed."""

    def __init__(self, settings: Settings, url: str, tokens: Tokens | None = None) -> None:
        self._settings = settings
        self._tokens = tokens
        self._app = open_app(settings.forge, settings.environ)
        self._url = url
        path = settings.data_dir / "commandcenter.sqlite"
        database.prepare_sqlite(path)
        self._engine = database.open_engine(database.sqlite_url(path))
        database.migrate(self._engine)
        self._git = Git(user=settings.environ, sign_in=self._app)
        self._database = database.Database(self._engine)
        self._vaults = Vaults(self._git, settings.data_dir, self._database)
        self._gateway = ModelGateway(
            *_providers(settings),
            prices=settings.prices,
            now_ms=_now_ms,
            record=settings.data_dir / "parked.json",
        )
        self._proxy = EgressProxy(_now_ms)
        self._program = find_program(settings)
        self._package_managers = PackageManagers(settings.environ, self._program)
        self._token = _kept_token(settings, HUB_TOKEN)
        self._person_token = _kept_token(settings, HUB_PERSON_TOKEN)
        self._forges: dict[str, Forge] = {}
        self._repositories: dict[str, HubRepository] = {}
        self._workspaces: dict[str, Workspaces] = {
            "local": Local(
                settings.data_dir / "workspaces",
                self._git,
                extra_read_only=settings.read_only,
                extra_path=settings.path,
                best_effort=settings.isolation == "best-effort",
            ),
            "container": Container(
                settings.data_dir / "containers",
                self._git,
                settings.environ,
                engine=settings.container.engine,
                recipe=Recipe(settings.container.image, settings.container.dockerfile),
                devcontainer=settings.container.devcontainer,
                build_network=settings.container.build_network,
                extra_read_only=settings.read_only,
                extra_path=settings.path,
            ),
            "dagger": Dagger(
                settings.data_dir / "dagger",
                self._git,
                settings.environ,
                image=settings.dagger.image,
                open_network=settings.dagger.open_network,
                caches=settings.dagger.caches,
                extra_read_only=settings.read_only,
                extra_path=settings.path,
            ),
        }
        self._equipment = Equipment(
            git=self._git,
            database=self._database,
            vaults=self._vaults,
            workspaces=self._workspaces,
            gateway=self._gateway,
            proxy=self._proxy,
            egress=settings.egress,
            registries=self._package_managers.registries,
            forge=self.forge,
            slots=asyncio.Semaphore(settings.workers),
            crews=Crews(),
            checks=settings.checks,
            resources=settings.resources,
            logs=Logs(settings.data_dir / "logs"),
            plans=Plans(),
            base_url=url,
            now_ms=_now_ms,
            program=self._program,
            salvage_dir=settings.data_dir / "salvage",
            disk=disk_of(settings.data_dir),
            disk_free_min_bytes=settings.disk_free_min_bytes,
            lanes=settings.merge_queue.lanes,
            changes_max=settings.merge_queue.changes_max,
            strategy=settings.merge_queue.strategy,
            labels=settings.forge.labels,
            draft=settings.forge.draft,
            external_checks=settings.merge_queue.external_checks,
            external_checks_wait_s=settings.merge_queue.external_checks_wait_s,
        )

    async def require(self) -> None:
        """Make sure that there is what going on with any run needs, or its tasks would fail."""
        await self._git.check_version()

    def flow(self) -> Flow:
        # Imported here, since a service that only reads need not pay for the engine.
        from commandcenter.flow import Flow

        budget = self._settings.budget
        return Flow(
            self._engine,
            Stages(self._equipment),
            now_ms=self._equipment.now_ms,
            bounds=Bounds(budget.tries_max, budget.review_rounds_max, budget.stops_max),
            workers=self._settings.workers,
            poll_s=self._settings.poll_s,
            forge_poll_s=self._settings.forge.poll_s,
        )

    def service(
        self, flow: Flow | None, webhooks: Webhooks | None = None, *, owns: bool = False
    ) -> Service:
        doctor = Doctor(
            self._settings,
            self._git,
            self._workspaces,
            self._program,
            self._database,
            self._package_managers.registries,
            self._forge_findings,
        )
        owned = partial(_is_owned, self._settings)
        return Service(
            *(self._settings, self._equipment, doctor, flow),
            owns=owns,
            owned=owned,
            webhooks=webhooks,
        )

    def webhooks(self, flow: Flow, secret: str) -> Webhooks:
        now_ms = self._equipment.now_ms
        return Webhooks(secret, self._database, self._place, now_ms, flow.look_now)

    def _place(self, upstream: str) -> str:
        remote = remote_of(upstream, self._settings.forge)
        if remote is None:
            # The hub speaks as GitHub does.
            return place("github", f"{HUB_OWNER}/{_hub_name(upstream)}")
        return place(remote.site.kind, f"{remote.owner}/{remote.name}")

    async def _forge_findings(self) -> Sequence[Finding]:
        chosen, environ = self._settings.forge, self._settings.environ
        # Who only reads had no use for them until now.
        tokens = self._tokens or await find_tokens(chosen, environ)
        return await findings(chosen, tokens, self._app)

    def hub(self) -> ASGIApp:
        records = HubStore(self._engine)
        with Session(self._engine) as session:
            for run in views.runs(session):
                self._serve_on_hub(run.upstream, run.target)
        logins = {self._token: HUB_USER, self._person_token: _person()}
        return create_hub(records, self._repository, self._git, logins)

    def _serve_on_hub(self, upstream: str, target: str) -> str:
        """Let the hub serve an upstream's pull requests; return its name there."""
        name = _hub_name(upstream)
        git_dir = _git_dir(Path(upstream))
        self._repositories[name] = HubRepository(HUB_OWNER, name, git_dir, default_branch=target)
        return name

    def _repository(self, owner: str, name: str) -> HubRepository | None:
        return self._repositories.get(name) if owner == HUB_OWNER else None

    def forge(self, upstream: str, target: str) -> Forge:
        if upstream not in self._forges:
            self._forges[upstream] = self._open_forge(upstream, target)
        return self._forges[upstream]

    def _open_forge(self, upstream: str, target: str) -> Forge:
        chosen, environ = self._settings.forge, self._settings.environ
        tokens = self._tokens or named_tokens(chosen, environ)
        remote = open_remote(upstream, chosen, tokens, self._app)
        if remote is not None:
            return remote
        name = self._serve_on_hub(upstream, target)
        return GitHub(f"{self._url}{HUB_PATH}", HUB_OWNER, name, self._token, beside=True)

    async def aclose(self) -> None:
        for forge in self._forges.values():
            await forge.aclose()
        if self._app is not None:
            await self._app.aclose()
        await self._proxy.aclose()
        await self._gateway.aclose()
        self._vaults.close()
        self._engine.dispose()


def _now_ms() -> int:
    return time.time_ns() // 10**6


def _providers(settings: Settings) -> Iterator[Provider]:
    for each in settings.providers:
        key = settings.environ.get(each.api_key_variable, "")
        token = settings.environ.get(each.token_variable, "")
        credential = ApiKey(key) if key else SubscriptionToken(token) if token else None
        yield Provider(each.name, each.base_url, credential, each.variables)


def _kept_token(settings: Settings, name: str) -> str:
    """Return a token of the hub's API, made once and readable by its owner alone."""
    path = settings.data_dir / name
    if not path.exists():
        # Linked when it is whole: a token that a crash left empty would let everybody in.
        with tempfile.NamedTemporaryFile("w", dir=settings.data_dir, prefix=".hub-token-") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text()


def _person() -> str:
    """Return how the hub calls who owns this data folder."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = ""
    login = re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")
    return login if login not in ("", HUB_USER) else "person"


def _hub_name(upstream: str) -> str:
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(upstream.removesuffix(".git")).name).strip("-.")
    return f"{words or 'repository'}-{hashlib.sha256(upstream.encode()).hexdigest()[:8]}"


def _git_dir(upstream: Path) -> Path:
    return upstream / ".git" if (upstream / ".git").is_dir() else upstream


@contextlib.contextmanager
def _owning(settings: Settings) -> Iterator[None]:
    """Hold the data folder: the lock dies with us, so it never lies about who is alive."""
    _make_data_dir(settings)
    lock = os.open(settings.data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _taken(lock):
            raise AlreadyRunning(_announced(settings), os.pread(lock, 20, 0).decode())
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        _withdraw(settings)  # what one that was killed announced is not so any more
        yield
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    """Take the lock, unless a service has it; who only looks has it for a moment."""
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOCK_PAUSE_S)
    return False


def _is_owned(settings: Settings) -> bool:
    """Say whether a live service owns the data folder, be it too busy to answer."""
    try:
        with (settings.data_dir / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _make_data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        ignored = settings.data_dir / ".gitignore"
        if not ignored.exists():
            # It may be in a repository, where it is nobody's work and nobody's to commit.
            ignored.write_text("*\n")
    except OSError as error:
        raise InputError(
            f"The data folder {settings.data_dir} cannot be made: {error.strerror}.",
            hint="choose another one: --data-dir",
        ) from error


def _require_room(data_dir: Path) -> None:
    """Make sure that a service can record that it is there; it would wait for room in silence."""
    if shutil.disk_usage(data_dir).free < ROOM_MIN_BYTES:
        raise DiskFull(
            f"The disk of the data folder {data_dir} is full.",
            hint="free some space; what was running goes on when a service runs again",
        )


def _announce(settings: Settings, url: str) -> None:
    announced = json.dumps({"url": url, "pid": os.getpid()}).encode()
    durable.write(settings.data_dir / "service.json", announced)


def _withdraw(settings: Settings) -> None:
    (settings.data_dir / "service.json").unlink(missing_ok=True)


def _announced(settings: Settings) -> str:
    try:
        return str(json.loads((settings.data_dir / "service.json").read_text())["url"])
    except (OSError, ValueError, KeyError):
        return "an address it has not told yet"


def _authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio would not switch Nagle's delay off: 40 ms for every answer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(128)
        except OSError as error:
            raise InputError(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                hint="another program has it; choose another one with --port, or 0 for any",
            ) from error
        yield listening


class _Server(uvicorn.Server):
    """A server that leaves signals to the caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _served(web: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        web, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
