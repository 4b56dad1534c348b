"""without_io_uring.py COMMAND...: runs it as many containers do, with io_uring refused.

A seccomp filter answers EPERM to io_uring_setup, io_uring_enter and io_uring_register, whose numbers
are the same on every architecture, and lets everything else through.
"""
import ctypes
import os
import struct
import sys

FIRST, LAST = 425, 427
LOAD_NUMBER = (0x20, 0, 0, 0)
ALLOW = (0x06, 0, 0, 0x7FFF0000)
REFUSE = (0x06, 0, 0, 0x00050001)  # errno 1, EPERM
PROGRAM = [
    LOAD_NUMBER,
    (0x35, 0, 2, FIRST),  # below the first: allowed
    (0x25, 1, 0, LAST),  # above the last: allowed
    REFUSE,
    ALLOW,
]
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


code = b"".join(struct.pack("=HBBI", *instruction) for instruction in PROGRAM)
libc = ctypes.CDLL(None, use_errno=True)
arguments = (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(PROGRAM), code)), 0, 0)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(*arguments):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
