"""Started by `tests.support.engines`: writes an OCI bundle with the pod's terms and becomes crun.

Arguments: a plan as JSON, then the program's own. Uses the standard library only.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

NAMESPACES = ("pid", "ipc", "uts", "mount")
"""Not the network: the tests ask on this machine's loopback."""
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
CRUN = 'mount -t cgroup2 none /sys/fs/cgroup && exec crun --root "$1" run --pid-file "$2/pid" --bundle "$2" "$3"'
"""crun refuses a machine whose cgroups are of both versions; a namespace of its own shows it one version only."""


def main(plan: dict[str, Any], arguments: list[str]) -> None:
    """Never returns."""
    bundle = Path(plan["bundle"])
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(_bundle(plan, arguments)))
    shell = ["sh", "-c", CRUN, "sh", plan["state"], str(bundle), plan["name"]]
    os.execvp("unshare", ["unshare", "--mount", *shell])


def _bundle(plan: dict[str, Any], arguments: list[str]) -> dict[str, Any]:
    user = plan["user"]
    return {
        "ociVersion": "1.0.2",
        "hostname": plan["name"],
        "root": {"path": plan["root"], "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": user, "gid": user, "additionalGids": [user]},
            "args": [*plan["entrypoint"], *arguments],
            "env": plan["environ"],
            "cwd": plan["folder"],
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _memory("/dev", 64, "mode=755", "noexec"),
            *(_memory(path, size, "mode=1777", "nodev") for path, size in plan["temporary"].items()),
            *(_bind(path, source, "rw") for path, source in plan["volumes"].items()),
            *(_bind(path, source, "ro") for path, source in plan["read_only"].items()),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }


def _memory(path: str, size: int, *options: str) -> dict[str, Any]:
    return {
        "destination": path,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", f"size={size}k", *options],
    }


def _bind(path: str, source: str, access: str) -> dict[str, Any]:
    return {"destination": path, "type": "bind", "source": source, "options": ["rbind", "nosuid", access]}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
