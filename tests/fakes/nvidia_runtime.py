#!/usr/bin/env python3
"""nvidia_runtime.py SPEC RUNC [RUNC'S ARGUMENTS] : what the NVIDIA Container Toolkit's runtime does, for tests.

Takes a container whose NVIDIA_VISIBLE_DEVICES names GPUs and gives it their device nodes, the common edits and the device
rules of the CDI specification SPEC (as the toolkit's just-in-time CDI mode does since 1.18), then lets RUNC go on. As there:
the last of several values wins; unset, empty and "void" inject nothing; "none" the common edits alone; "all" everything; an
unknown id fails the start; and inside the variable reads "void" (facts: NVIDIA/nvidia-container-toolkit, pkg/nvcdi).
"""
import json
import os
import sys
import time


class Refused(Exception):
    pass


def wanted(env, devices):
    """The values of NVIDIA_VISIBLE_DEVICES as a list of names; None: nothing is injected."""
    values = [e.split("=", 1)[1] for e in env if e.startswith("NVIDIA_VISIBLE_DEVICES=")]
    items = [v.strip() for v in values[-1].split(",")] if values else []
    items = [v for v in items if v]
    if not items or "void" in items:
        return None
    if "all" in items:
        return sorted(devices)
    if "none" in items:
        return []
    for item in items:
        if item not in devices:
            raise Refused(f"failed to generate CDI spec: nvidia-container-cli: device error: {item}: unknown device")
    return items


def add_edits(config, edits):
    for variable in edits.get("env", []):
        name = variable.split("=", 1)[0] + "="
        config["process"]["env"] = [e for e in config["process"]["env"] if not e.startswith(name)] + [variable]
    for mount in edits.get("mounts", []):
        config.setdefault("mounts", []).append({"destination": mount["containerPath"], "source": mount["hostPath"], "type": "bind",
                                                "options": mount.get("options", ["ro", "rbind"])})
    linux = config.setdefault("linux", {})
    for node in edits.get("deviceNodes", []):
        st = os.stat(node.get("hostPath", node["path"]))
        numbers = {"type": "c", "major": os.major(st.st_rdev), "minor": os.minor(st.st_rdev)}
        linux.setdefault("devices", []).append({"path": node["path"], **numbers, "fileMode": 0o666, "uid": 0, "gid": 0})
        linux.setdefault("resources", {}).setdefault("devices", []).append({"allow": True, "access": "rwm", **numbers})


def inject(spec, config):
    devices = {d["name"]: d["containerEdits"] for d in spec["devices"]}
    names = wanted(config["process"].get("env", []), devices)
    if names is None:
        return False
    for name in names:
        add_edits(config, devices[name])
    add_edits(config, spec.get("containerEdits", {}))
    return True


def option(args, *names):
    for i, arg in enumerate(args):
        for name in names:
            if arg == name and i + 1 < len(args):
                return args[i + 1]
            if arg.startswith(name + "="):
                return arg[len(name) + 1:]
    return None


def main(argv):
    spec_file, runc, args = argv[0], argv[1], argv[2:]
    if {"create", "run"} & set(args):
        path = os.path.join(option(args, "--bundle", "-b") or ".", "config.json")
        with open(path) as f:
            config = json.load(f)
        try:
            with open(spec_file) as f:
                changed = inject(json.load(f), config)
        except (Refused, OSError, ValueError) as e:
            log = option(args, "--log")
            if log:  # where containerd's shim reads the reason
                with open(log, "a") as f:
                    json.dump({"level": "error", "msg": str(e), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}, f)
            print(e, file=sys.stderr)
            return 1
        if changed:
            with open(path, "w") as f:
                json.dump(config, f, separators=(",", ":"))  # as the engine writes it
    os.execv(runc, [runc, *args])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
