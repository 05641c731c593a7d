"""What agents leave behind, case by case. Run as a program, in a mount name space of its own.

    zoo.py overlay|rootless|checkout CASE FOLDER

Below FOLDER it finds `lower`, `upper`, `work`, `merged`, `secret` and `evil.sh`. It does to the
tree what the case says, and then copies the tree to `copy`, as the agent last saw it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Case = Callable[[Path, Path], None]
LEGITIMATE: dict[str, Case] = {}
LEFT_OUT: dict[str, Case] = {}
REFUSED: dict[str, Case] = {}


def case(group: dict[str, Case]) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        group[function.__name__] = function
        return function

    return add


def write(path: Path, text: str = "hi\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@case(LEGITIMATE)
def nothing(at: Path, there: Path) -> None:
    (at / "f1.txt").touch()
    (at / "empty").mkdir()


@case(LEGITIMATE)
def plain_edit(at: Path, there: Path) -> None:
    write(at / "f1.txt", "new\n")
    write(at / "new/a", "b")
    (at / "f2.txt").unlink()


@case(LEGITIMATE)
def same_size_same_mtime(at: Path, there: Path) -> None:
    before = (at / "f1.txt").stat()
    with (at / "f1.txt").open("r+") as file:
        file.write("LINE1")
    os.utime(at / "f1.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


@case(LEGITIMATE)
def link_to_a_secret(at: Path, there: Path) -> None:
    (at / "f1.txt").unlink()
    (at / "f1.txt").symlink_to(there / "secret/f1.txt")
    (at / "linked").symlink_to(there / "secret")


@case(LEGITIMATE)
def folder_replaced_by_a_link(at: Path, there: Path) -> None:
    shutil.rmtree(at / "src")
    (at / "src").symlink_to(there / "secret")


@case(LEGITIMATE)
def folder_replaced_by_a_file(at: Path, there: Path) -> None:
    shutil.rmtree(at / "d")
    write(at / "d", "file\n")


@case(LEGITIMATE)
def file_replaced_by_a_folder(at: Path, there: Path) -> None:
    (at / "f1.txt").unlink()
    write(at / "f1.txt/in", "1\n")
    (at / "f2.txt").unlink()
    (at / "f2.txt").mkdir()


@case(LEGITIMATE)
def folder_made_anew(at: Path, there: Path) -> None:
    shutil.rmtree(at / "d")
    write(at / "d/only", "1\n")
    write(at / "d/x1.c", "x1\n")


@case(LEGITIMATE)
def folders_renamed(at: Path, there: Path) -> None:
    move(at / "d", at / "moved")
    write(at / "moved/x1.c", "edited after the move\n")
    (at / "moved/x2.c").unlink()
    move(at / "moved/e", at / "up")
    write(at / "up/y1", "edited twice\n")
    write(at / "d/fresh", "1\n")
    move(at / "docs", at / "moved/docs")
    write(at / "moved/docs/build/made", "ignored\n")


@case(LEGITIMATE)
def renamed_beside_itself_inside_a_renamed(at: Path, there: Path) -> None:
    move(at / "d/e", at / "d/g")
    write(at / "d/g/y9", "new\n")
    move(at / "d", at / "q")
    (at / "q/g/y1").unlink()
    move(at / "q/g", at / "q/h")


@case(LEGITIMATE)
def everything_deleted(at: Path, there: Path) -> None:
    for path in at.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    write(at / "x")


@case(LEGITIMATE)
def weird_names(at: Path, there: Path) -> None:
    names = [b"a\nb", b"tab\there", b'q"uote', b"back\\slash", b"\xff\xfe", b"-rf", b" lead"]
    names += [b"trail ", b"\x01\x02", b"e" * 250, b"--output=x", b":(exclude)x", b"f*.txt"]
    names += [b"\xe2\x80\xae.txt", b'"', b":/", b"[a]", b"!x", b"#x"]
    for name in names:
        Path(os.fsdecode(os.fsencode(at) + b"/" + name)).write_text("w")
    (at / os.fsdecode(b"dir\n\xff")).mkdir()
    write(at / os.fsdecode(b"dir\n\xff") / 'in"', "w")


@case(LEGITIMATE)
def ignored_files(at: Path, there: Path) -> None:
    write(at / "a.log")
    write(at / "d/b.log")
    write(at / "docs/build/deep/er/x")
    write(at / "docs/keep/build/x")
    write(at / "build/kept")
    write(at / ".gitignore", "*.log\n!b.log\nnode_modules\n/only-root\n")
    write(at / "node_modules/p/index.js")
    write(at / "d/only-root")
    write(at / "only-root")
    (at / "docs/.gitignore").unlink()
    write(at / "src/.gitignore", "*\n!.gitignore\n")
    write(at / "src/x.c", "tracked edit\n")
    write(at / "src/hidden")


@case(LEGITIMATE)
def ignored_everything(at: Path, there: Path) -> None:
    write(at / ".gitignore", "*\n")
    write(at / "f1.txt", "tracked edit\n")
    write(at / "hidden/x")


@case(LEGITIMATE)
def modes(at: Path, there: Path) -> None:
    (at / "f1.txt").chmod(0o755)
    (at / "run.sh").chmod(0o644)
    write(at / "s.sh", "#!/bin/sh\n")
    (at / "s.sh").chmod(0o6755)
    (at / "f2.txt").chmod(0o600)


@case(LEGITIMATE)
def many_ignored_files(at: Path, there: Path) -> None:
    write(at / ".gitignore", "node_modules/\n")
    (at / "node_modules/deep").mkdir(parents=True)
    for number in range(20_500):
        (at / f"node_modules/deep/{number}").touch()


@case(LEGITIMATE)
def own_git_removed(at: Path, there: Path) -> None:
    remove(at / ".git")
    write(at / "f1.txt", "edit\n")


@case(LEGITIMATE)
def own_git_is_a_link(at: Path, there: Path) -> None:
    remove(at / ".git")
    (at / ".git").symlink_to(there / "seed/.git")
    write(at / "f1.txt", "edit\n")


@case(LEGITIMATE)
def own_git_is_a_pipe(at: Path, there: Path) -> None:
    remove(at / ".git")
    os.mkfifo(at / ".git")
    write(at / "f1.txt", "edit\n")


@case(LEGITIMATE)
def own_git_is_hostile(at: Path, there: Path) -> None:
    remove(at / ".git")
    sh("git init -q .", at)
    sh("git config commit.gpgSign false; git add -A; git commit -qm mine", at)
    for key in ("core.fsmonitor", "core.sshCommand", "diff.external", "gpg.program"):
        sh(f"git config {key} {there}/evil.sh", at)
    for key in ("filter.e.clean", "filter.e.smudge", "filter.e.process", "diff.e.textconv"):
        sh(f"git config {key} {there}/evil.sh", at)
    sh(f"mkdir hooks.d; cp {there}/evil.sh hooks.d/post-index-change", at)
    sh("git config core.hooksPath $PWD/hooks.d; echo '*' > .git/info/exclude", at)
    sh(f"cp {there}/evil.sh .git/hooks/post-index-change", at)
    write(at / ".gitattributes", "* filter=e diff=e merge=e ident text eol=crlf\n")
    write(at / "f1.txt", "edit\n")


@case(LEGITIMATE)
def bare_repository_in_the_tree(at: Path, there: Path) -> None:
    sh("git init -q --bare inner.x", at)
    sh(f"git -C inner.x config core.fsmonitor {there}/evil.sh", at)


@case(LEFT_OUT)
def encodings(at: Path, there: Path) -> None:
    write(at / ".gitattributes", "* text working-tree-encoding=UTF-16\n*.txt ident eol=crlf\n")
    write(at / "f1.txt", "$Id$\r\n")


@case(LEFT_OUT)
def pipes_sockets_devices(at: Path, there: Path) -> None:
    (at / "f1.txt").unlink()
    os.mkfifo(at / "f1.txt")
    os.mkfifo(at / "new.fifo")
    os.chdir(at)
    socket.socket(socket.AF_UNIX).bind("sock")
    os.chdir("/")
    if os.stat(at).st_dev and os.geteuid() == 0 and sys.argv[1] != "rootless":
        os.mknod(at / "zero", 0o020666, os.makedev(1, 5))
    write(at / "f2.txt", "ok\n")


@case(LEFT_OUT)
def spellings_of_dotgit(at: Path, there: Path) -> None:
    for name in (".GIT", "git~1", ".g\u200cit", ".git ", ".git.", ".Git::$INDEX_ALLOCATION"):
        write(at / name / "config", "[core]\n fsmonitor = evil\n")
    write(at / "d/.GIT/config")
    write(at / "d/x1.c", "kept\n")
    write(at / "f3.txt", "ok\n")


@case(LEFT_OUT)
def nested_repository(at: Path, there: Path) -> None:
    sh("git init -q inner; cd inner; echo 1 > a; git add -A; git commit -qm s", at)
    sh(f"cd inner; git config core.fsmonitor {there}/evil.sh", at)
    sh(
        f"cd inner; git config filter.e.clean {there}/evil.sh; echo '* filter=e' > .gitattributes",
        at,
    )
    write(at / "inner/a", "2\n")
    sh("git init -q src", at)
    write(at / "src/x.c", "lost\n")
    write(at / "f3.txt", "ok\n")


@case(LEFT_OUT)
def submodule_filled(at: Path, there: Path) -> None:
    write(at / "sub/a", "agent's\n")
    write(at / "f3.txt", "ok\n")


@case(LEFT_OUT)
def names_that_differ_in_case(at: Path, there: Path) -> None:
    write(at / "F1.TXT", "other\n")


@case(REFUSED)
def pipe_as_gitignore(at: Path, there: Path) -> None:
    (at / "n").mkdir()
    os.mkfifo(at / "n/.gitignore")
    write(at / "n/a")


@case(REFUSED)
def pipe_as_gitattributes(at: Path, there: Path) -> None:
    os.mkfifo(at / ".gitattributes")


@case(REFUSED)
def link_as_gitattributes(at: Path, there: Path) -> None:
    (at / ".gitattributes").symlink_to("/dev/zero")


@case(REFUSED)
def link_as_gitignore(at: Path, there: Path) -> None:
    (at / ".gitignore").unlink()
    (at / ".gitignore").symlink_to("/etc/passwd")


@case(REFUSED)
def huge_sparse_file(at: Path, there: Path) -> None:
    with (at / "huge").open("w") as file:
        file.truncate(1 << 40)


@case(REFUSED)
def huge_gitignore(at: Path, there: Path) -> None:
    with (at / ".gitignore").open("w") as file:
        file.truncate(3 << 30)


@case(REFUSED)
def too_many_files(at: Path, there: Path) -> None:
    (at / "many").mkdir()
    for number in range(20_500):
        (at / f"many/{number}").touch()


@case(REFUSED)
def too_deep(at: Path, there: Path) -> None:
    os.chdir(at)
    for _ in range(1500):
        os.mkdir("ddd")
        os.chdir("ddd")
    Path("leaf").write_text("x")
    os.chdir("/")


@case(REFUSED)
def path_too_long(at: Path, there: Path) -> None:
    write(at / "/".join(["e" * 200] * 6) / "x")


@case(REFUSED)
def gitmodules_with_an_option_for_a_url(at: Path, there: Path) -> None:
    write(at / ".gitmodules", '[submodule "x"]\n path = x\n url = --upload-pack=touch /tmp/pwn\n')


@case(REFUSED)
def gitmodules_with_a_path_for_a_name(at: Path, there: Path) -> None:
    write(at / ".gitmodules", '[submodule "../../hooks"]\n path = x\n url = https://h/x\n')


@case(REFUSED)
def attributes_with_a_long_line(at: Path, there: Path) -> None:
    write(at / ".gitattributes", "* " + "a" * 900_000 + "\n")


@case(REFUSED)
def backslashes_to_dotgit(at: Path, there: Path) -> None:
    write(at / "a\\.git", "x")


CASES = {**LEGITIMATE, **LEFT_OUT, **REFUSED}


def sh(script: str, cwd: Path) -> None:
    subprocess.run(["sh", "-euc", script], cwd=cwd, check=True, capture_output=True)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def move(source: Path, target: Path) -> None:
    shutil.move(source, target)


def mount(there: Path, options: str) -> None:
    layers = ",".join(f"{name}dir={there / name}" for name in ("lower", "upper", "work"))
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(
        b"overlay", os.fsencode(there / "merged"), b"overlay", 6, f"{layers},{options}".encode()
    )
    if done != 0:
        raise OSError(ctypes.get_errno(), "mount")


def main(kind: str, name: str, there: Path) -> None:
    if kind == "overlay":
        mount(there, "volatile,redirect_dir=on,metacopy=off,index=off")
    elif kind == "rootless":
        mount(there, "userxattr,metacopy=off,index=off")
    CASES[name](there / "merged", there)
    if name in LEGITIMATE:
        subprocess.run(["cp", "-a", there / "merged", there / "copy"], check=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
