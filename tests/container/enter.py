"""Makes the processes of a container: what an engine's runtime does, in so far as a server notices.

    enter.py start SPEC     a new container on a layer of its own over an image; the command is its
                            PID 1, whose pid out here is written to the descriptor SPEC["report"],
                            which is closed when the command has been executed
    enter.py join SPEC      a further process in the container whose PID 1 is SPEC["pid"]

It ends as the command does. SPEC is JSON and comes from container.py. Runs as root, with Debian's
own python3 because of its python3-seccomp.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys

import seccomp

NEW_MOUNTS, NEW_CGROUPS, NEW_NAMES, NEW_IPC, NEW_PIDS = (
    0x20000,
    0x2000000,
    0x4000000,
    0x8000000,
    0x20000000,
)
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
MNT_DETACH = 2
# Each container has mounts of its own, so that all can have them at one place.
PLACE = "/mnt"
OWN_GROUP = f"slapback-{os.getpid()}"
LIBC = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def start(spec):
    policy = spec["profile"] and filter_of(spec["profile"])
    os.set_inheritable(spec["report"], False)
    check(LIBC.unshare(NEW_MOUNTS | NEW_NAMES | NEW_IPC))
    mount("--make-rprivate", "/")
    root = layered(spec)
    groups = every_cgroup() if spec["is_machine"] else None
    # The next child is PID 1, so that nothing may be run before it.
    check(LIBC.unshare(NEW_PIDS))
    pid = os.fork()
    if pid == 0:
        mount("-t", "proc", "proc", root + "/proc")
        if groups:
            furnish(root, groups)
        os.chdir(root)
        subprocess.run(["pivot_root", ".", "."], check=True)
        check(LIBC.umount2(b".", MNT_DETACH))
        become(spec, policy)
    os.write(spec["report"], str(pid).encode())
    os.close(spec["report"])
    _, status = os.waitpid(pid, 0)
    if groups:
        for folder, _, _, _ in os.fwalk(OWN_GROUP, topdown=False, dir_fd=groups):
            os.rmdir(folder, dir_fd=groups)
    sys.exit(os.waitstatus_to_exitcode(status))


def layered(spec):
    """Mounts the image with a layer on it that goes with the container. Returns where."""
    mount("-t", "tmpfs", "tmpfs", PLACE)
    for name in ["upper", "work", "root"]:
        os.mkdir(f"{PLACE}/{name}")
    root = f"{PLACE}/root"
    layers = f"lowerdir={spec['image']},upperdir={PLACE}/upper,workdir={PLACE}/work"
    mount("-t", "overlay", "-o", layers, "overlay", root)
    os.makedirs(root + spec["workdir"], exist_ok=True)
    for source, target in spec["binds"].items():
        if os.path.isdir(source):
            os.makedirs(root + target, exist_ok=True)
        else:
            open(root + target, "a").close()
        mount("--bind", "-o", "ro", source, root + target)
    for name, text in spec["files"].items():
        os.makedirs(os.path.dirname(root + name), exist_ok=True)
        with open(root + name, "w") as file:
            file.write(text)
    if spec["read_only"]:
        mount("-o", "remount,bind,ro", root)
    mount("-t", "tmpfs", "tmpfs", root + "/tmp")
    return root


def every_cgroup():
    """Opens the tree of control groups, hidden later, and makes one of the container's own."""
    top = f"{PLACE}/cgroup"
    os.mkdir(top)
    mount("-t", "cgroup2", "cgroup2", top)
    os.mkdir(f"{top}/{OWN_GROUP}")
    return os.open(top, os.O_DIRECTORY)


def furnish(root, groups):
    """What an init system needs besides files. Of the kernel's settings it can change none."""
    members = os.open(f"{OWN_GROUP}/cgroup.procs", os.O_WRONLY, dir_fd=groups)
    os.write(members, b"0")
    os.close(members)
    check(LIBC.unshare(NEW_CGROUPS))
    mount("--bind", f"{root}/proc/sys", f"{root}/proc/sys")
    mount("-o", "remount,bind,ro", f"{root}/proc/sys")
    mount("-t", "tmpfs", "tmpfs", f"{root}/run")
    mount("-t", "sysfs", "-o", "ro", "sysfs", f"{root}/sys")
    mount("-t", "cgroup2", "cgroup2", f"{root}/sys/fs/cgroup")


def join(spec):
    policy = spec["profile"] and filter_of(spec["profile"])
    for namespace in ["cgroup", "ipc", "uts", "pid", "mnt"]:
        with open(f"/proc/{spec['pid']}/ns/{namespace}") as file:
            check(LIBC.setns(file.fileno(), 0))
    pid = os.fork()
    if pid == 0:
        become(spec, policy)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def become(spec, policy):
    """Takes everything away that a container does not have, and becomes the command."""
    os.chdir(spec["workdir"])
    if not spec["is_machine"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spec["open_files"],) * 2)
        with open("/proc/sys/kernel/cap_last_cap") as last:
            for capability in range(int(last.read()) + 1):
                check(LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
        user, group = map(int, spec["user"].split(":"))
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        policy.load()
    os.execvpe(spec["command"][0], spec["command"], spec["environment"])


def filter_of(path):
    """A container engine's seccomp profile as a filter, for a container without capabilities."""
    with open(path) as file:
        profile = json.load(file)
    default = action_of(profile["defaultAction"], profile.get("defaultErrnoRet", 1))
    policy = seccomp.SyscallFilter(default)
    for rule in profile["syscalls"]:
        needed, spared = rule.get("includes") or {}, rule.get("excludes") or {}
        # Capabilities in "excludes" are those of a container that has them: this one has none.
        if "caps" in needed or not is_here(needed) or ("arches" in spared and is_here(spared)):
            continue
        action = action_of(rule["action"], rule.get("errnoRet", 1))
        arguments = [argument_of(argument) for argument in rule.get("args") or []]
        for name in rule["names"]:
            if is_known(name) and action != default:
                policy.add_rule(action, name, *arguments)
    return policy


def is_known(name):
    """Whether libseccomp knows the call; a runtime passes over those it does not."""
    return seccomp.resolve_syscall(seccomp.Arch(), name) != -1


def is_here(condition):
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    return machine in condition.get("arches", [machine])


def action_of(name, number):
    return {"SCMP_ACT_ALLOW": seccomp.ALLOW, "SCMP_ACT_ERRNO": seccomp.ERRNO(number)}[name]


def argument_of(argument):
    operators = {"SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_NE": seccomp.NE}
    return seccomp.Arg(argument["index"], operators[argument["op"]], argument["value"])


if __name__ == "__main__":
    {"start": start, "join": join}[sys.argv[1]](json.loads(sys.argv[2]))
