"""Packages: the same bytes make the same zip, which Lambda can run. The image: as the task runs it."""

import os
import re
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest
from adtrack_deploy import pack, template

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


def test_the_same_program_makes_the_same_package(tmp_path):
    hashes = set()
    for number in (1, 2):
        program = tmp_path / f"program-{number}"
        program.write_bytes(b"\x7fELF" + bytes(range(256)) * 100)
        os.utime(program, (number * 1_000_000, number * 1_000_000))
        program.chmod(0o600 + number)
        hashes.add(pack.pack(program, tmp_path / f"{number}.zip"))
    assert len(hashes) == 1
    with zipfile.ZipFile(tmp_path / "1.zip") as package:
        [entry] = package.infolist()
    assert entry.filename == "bootstrap"
    assert stat.S_IMODE(entry.external_attr >> 16) == 0o755
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize(("architecture", "target"), [
    ("arm64", "aarch64-unknown-linux-gnu.2.34"), ("x86_64", "x86_64-unknown-linux-gnu.2.34")])
def test_package_builds_for_lambdas_glibc(architecture, target):
    done = subprocess.run([ROOT / "deploy/package", "--dry-run", "--architecture", architecture],
                          capture_output=True, text=True, check=True)
    assert f"--target {target} " in done.stderr and "--locked" in done.stderr
    assert f"target/package/{architecture}/redis-updater.zip" in done.stderr


def test_package_refuses_another_architecture():
    done = subprocess.run([ROOT / "deploy/package", "--architecture", "mips"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 64 and "usage:" in done.stderr


def test_the_image_fits_the_task_and_the_toolchain():
    tracker = next(one for one in template.load("compute")["Resources"]["Task"]["Properties"]
                   ["ContainerDefinitions"] if one["Name"] == "tracker")
    assert re.search(rf"^USER {tracker['User']}:{tracker['User']}$", DOCKERFILE, re.M)
    [mount] = tracker["MountPoints"]
    assert f'VOLUME ["{mount["ContainerPath"]}"]' in DOCKERFILE
    command = tracker["HealthCheck"]["Command"][1:]
    assert f'CMD {str(command).replace(chr(39), chr(34))}' in DOCKERFILE
    channel = re.search(r'channel = "([\d.]+)"', (ROOT / "rust-toolchain.toml").read_text())[1]
    assert f"rust:{channel}-" in DOCKERFILE
    # The journal's folder is the user's own: an empty volume takes its owner from it.
    assert f"--chown={tracker['User']}:{tracker['User']} /image/journal /journal" in DOCKERFILE


def test_packages_and_image_are_built_by_the_same_tools():
    script = (ROOT / "deploy/package").read_text()
    for tool in ("zigbuild", "zig"):
        version = re.search(rf"^{tool}=(.+)$", script, re.M)[1]
        assert f" {tool.upper()}={version} " in DOCKERFILE and f'==${tool.upper()}"' in DOCKERFILE
    glibc = re.search(r"^glibc=(.+)$", script, re.M)[1]
    assert set(re.findall(r'"\$\(cat /target\)\.([\d.]+)"', DOCKERFILE)) == {glibc}
