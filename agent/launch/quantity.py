"""Reads the quantities of the command line, exactly: integers all the way, no float.

The forms are those of Kubernetes, so that a number can be copied from a manifest.
"""

MAX_CPU_M = 10_000_000
MAX_MEM_KIB = 1 << 40

_UNITS: dict[str, int] = {
    "": 1,
    **{letter: 10 ** (3 * power) for power, letter in enumerate("kMGTP", 1)},
    **{f"{letter}i": 1 << 10 * power for power, letter in enumerate("KMGTP", 1)},
}
_LEAST_BARE_BYTES = 1 << 20
_LEAST_LIKELY_MILLIS = 100  # nobody means 4m by 4
_KIB_IN_MIB = 1024


def parse_cpu(text: str) -> int:
    """Read processors: "500m" are 500 milli-cores, "2" and "1.5" are cores.

    Raises:
        ValueError: with what was expected.
    """
    rule = f"{text!r} is no number of processors; write 500m, 2 or 1.5"
    digits, decimals = _split(text.removesuffix("m"), rule)
    if text.endswith("m") and decimals:
        raise ValueError(f"{text!r} is finer than a milli-core; write whole ones, such as 500m")
    if len(decimals) > 3:
        raise ValueError(f"{text!r} is finer than a milli-core; write 500m or 0.5")
    millis = int(digits) if text.endswith("m") else int(digits + decimals.ljust(3, "0"))
    if millis > MAX_CPU_M:
        raise ValueError(f"{text!r} is more than {MAX_CPU_M // 1000} processors")
    return millis


def parse_mem(text: str) -> int:
    """Read memory in KiB, rounded up: "256Mi", "2Gi" (1024s), "1G" (1000s), or bytes.

    Raises:
        ValueError: with what was expected.
    """
    number = text.rstrip("KkMGTPi")
    unit = text[len(number) :]
    rule = f"{text!r} is no amount of memory; write 256Mi, 1.5Gi, 1G or bytes"
    if unit not in _UNITS:
        raise ValueError(rule)
    digits, decimals = _split(number, rule)
    amount = int(digits + decimals) * _UNITS[unit]
    divisor: int = 10 ** len(decimals)
    if not unit and 0 < amount < _LEAST_BARE_BYTES:
        raise ValueError(f"{text!r} would be so many bytes; write {text}Mi or {text}Gi")
    kib = -(-amount // (divisor * 1024))
    if kib > MAX_MEM_KIB:
        raise ValueError(f"{text!r} is more than {MAX_MEM_KIB >> 40}Pi")
    return kib


def parse_gpus(text: str) -> list[int]:
    """Read indexes of GPUs: "0" or "0,1,3", each once.

    Raises:
        ValueError: with what was expected.
    """
    parts = text.split(",")
    rule = f"{text!r} is no list of GPU indexes; write 0 or 0,1,3, each once"
    if not all(_is_digits(part) and len(part) <= 3 for part in parts):
        raise ValueError(rule)
    indexes = [int(part) for part in parts]
    if len(set(indexes)) != len(indexes):
        raise ValueError(rule)
    return indexes


def show_mib(kib: int) -> str:
    """Write KiB as a decimal number of MiB, exactly."""
    whole, rest = divmod(kib, _KIB_IN_MIB)
    decimals = f"{rest * 10**10 // _KIB_IN_MIB:010}".rstrip("0")  # 1/1024 has ten decimals
    return f"{whole}.{decimals}" if decimals else str(whole)


def check_fits(cpu_m: int, mem_kib: int, node_cpu_m: int, node_mem_kib: int) -> None:
    """Refuse what no job of this node can hold: mostly a forgotten unit.

    Raises:
        ValueError: with what the node has, and the unit that may have been meant.
    """
    if cpu_m > node_cpu_m:
        whole, rest = divmod(cpu_m, 1000)
        cores = f"{whole}.{rest:03}".rstrip("0").rstrip(".")
        is_likely = not rest and _LEAST_LIKELY_MILLIS <= whole <= node_cpu_m
        hint = f"; in milli-cores it is written {whole}m" if is_likely else ""
        raise ValueError(
            f"--cpu: {cores} processors are more than the {node_cpu_m // 1000} of this node{hint}"
        )
    if mem_kib > node_mem_kib:
        raise ValueError(
            f"--mem: {show_mib(mem_kib)}Mi are more than the {node_mem_kib // _KIB_IN_MIB}Mi of "
            "this node; write such as 256Mi or 2Gi"
        )


def _split(number: str, rule: str) -> tuple[str, str]:
    """Take a decimal number apart; zeros at its end say nothing."""
    digits, _, decimals = number.partition(".")
    is_number = _is_digits(digits) and (_is_digits(decimals) or "." not in number)
    if not is_number or len(number) > 40:
        raise ValueError(rule)
    return digits, decimals.rstrip("0")


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()
