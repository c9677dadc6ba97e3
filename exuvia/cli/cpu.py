"""`-cpu`: a model, and what of it is on or off (QEMU, System Emulation, CPU models and features)."""

from collections.abc import Mapping
from typing import Any

from exuvia.cli import keyval
from exuvia.support.errors import UserError, unknown

HOST = "host"
"""The model that is no model: what KVM gives of the host's processor."""

GROUPS = {"aarch64": {"pauth": ("paca", "pacg")}}
"""QEMU's names for several features together."""

FIXED = {
    "aarch64": {"aarch64": "on", "pauth-impdef": "on"},
    "x86": {"phys-bits": "40", "host-phys-bits": "off", "l3-cache": "off", "legacy-cache": "on"},
}
"""Other properties of QEMU's, with what they are here."""

MODELS_OWN = {"vendor": "vendor", "family": "family", "model": "model", "stepping": "stepping", "model-id": "brand"}
"""Properties of x86 models, and what they are called there."""

MIGRATABLE, UNMIGRATABLE = "migratable", ("constant_tsc",)
"""The property that takes away what a machine that moves to another host would lose."""

ASKS = ("check", "enforce")
"""That what was asked for is there, or an error: no need to ask."""

ABSENT = {
    "aarch64": "lpa2 pmu sme sme_fa64 sve",
    "x86": """3dnow 3dnowext acpi amx-bf16 amx-int8 amx-tile arch-capabilities arch-lbr avic avx-vnni avx512-4fmaps avx512-4vnniw
        avx512-bf16 avx512-fp16 avx512-vp2intersect avx512-vpopcntdq avx512bitalg avx512bw avx512cd avx512dq avx512er avx512f avx512ifma
        avx512pf avx512vbmi avx512vbmi2 avx512vl avx512vnni cid cldemote clflushopt clwb clzero cmp-legacy core-capability cr8legacy dca
        decodeassists ds ds-cpl dtes64 est extapic flushbyasid fma4 fsrm fxsr-opt gfni hle ht ia64 ibpb ibrs ibrs-all ibs intel-pt
        kvm-asyncpf kvm-asyncpf-int kvm-hint-dedicated kvm-mmu kvm-nopiodelay kvm-poll-control kvm-pv-eoi kvm-pv-ipi kvm-pv-sched-yield
        kvm-pv-tlb-flush kvm-pv-unhalt kvm-steal-time kvmclock la57 lbrv lwp md-clear mds-no misalignsse mmxext monitor movdir64b movdiri
        mpx npt nrip-save osvw pause-filter pbe pcommit pdcm perfctr-core perfctr-nb pfthreshold pks pku pmu pn pschange-mc-no rdctl-no rsba
        rtm serialize sgx skinit skip-l1dfl-vmentry smx spec-ctrl split-lock-detect ss ssb-no ssbd sse4a stibp svm svm-lock
        svme-addr-chk taa-no tbm tce tm tm2 topoext tsc-deadline tsc-scale tsx-ctrl tsx-ldtrk v-vmsave-vmload virt-ssbd vgif vme vmx
        waitpkg wbnoinvd x2apic xop xsaveerptr xsaves xtpr""",
}
"""Features of QEMU's that are not here: they can be off."""


def described(option: str, architecture: str, text: str) -> tuple[str, list[tuple[str, bool]]]:
    """`MODEL,+FEATURE,-FEATURE,FEATURE=on|off,PROPERTY=VALUE`: the model, and what is added and taken away in order. Raises UserError."""
    from exuvia.isa import cpus

    name, *rest = keyval.split(text)
    known = models(architecture)
    if name not in known:
        raise unknown("processor model", name, known)
    own = {} if name == HOST else _properties(architecture, cpus(architecture).MODELS[name])
    absent = [] if name == HOST else ABSENT.get(architecture, "").split()  # the host's own may have them
    features: list[tuple[str, bool]] = []
    for part in rest:
        signed = part.startswith(("+", "-"))
        word, equals, value = (part[1:], "", "") if signed else part.partition("=")
        if word in own:
            _must_be(option, name, word, value, own[word])
            continue
        wanted = part[0] != "-" if signed else (not equals or keyval.switch(f"{option}: feature '{word}'", value))
        if word == MIGRATABLE and architecture == "x86":
            features += [(feature, False) for feature in UNMIGRATABLE if wanted]
        elif word.replace("_", "-") in absent or word in absent:
            if wanted:
                raise UserError(f"there is no processor feature '{word}' here, it can only be off: {option} help lists what there is")
        elif word not in ASKS:
            features += [(feature, wanted) for feature in _features(architecture, word)]
    return name, features


def _properties(architecture: str, kind: Any) -> dict[str, str]:
    """The properties that a model has one value of, with that."""
    own = {key: str(getattr(kind, field)) for key, field in MODELS_OWN.items()} if architecture == "x86" else {}
    return own | FIXED.get(architecture, {})


def _must_be(option: str, model: str, key: str, value: str, own: str) -> None:
    if keyval.SWITCH.get(value.lower(), value) != keyval.SWITCH.get(own, own):
        raise UserError(f"{option}: {key} of {model} is {own} and cannot be chosen, leave {key}={value} out")


def _features(architecture: str, word: str) -> tuple[str, ...]:
    """The features that a word of the user's means."""
    from exuvia.isa import UnknownName, cpus

    groups, described = GROUPS.get(architecture, {}), cpus(architecture)
    if word in groups:
        return groups[word]
    try:
        return (str(described.canonical_name(word)),)
    except UnknownName as error:
        if not described.FEATURES:
            raise UserError(str(error)) from None
        raise _unknown(word, [*described.FEATURES, *described.ALIASES, *groups, *FIXED.get(architecture, {})]) from None


def _unknown(word: str, known: list[str]) -> UserError:
    import difflib

    near = difflib.get_close_matches(word.lower(), known, 3)
    there = f"; did you mean {', '.join(near)}?" if near else f"; there are {' '.join(sorted(known))}"
    return UserError(f"unknown processor feature '{word}'{there}")


def models(architecture: str) -> Mapping[str, str]:
    """The models, with what they are."""
    from exuvia.isa import cpus

    host = {HOST: "this host's own processor, with -accel kvm"} if architecture == "x86" else {}
    return {name: kind.about for name, kind in cpus(architecture).MODELS.items()} | host


def listed(architecture: str) -> str:
    """What `-cpu help` says: models and features."""
    from textwrap import fill

    from exuvia.cli.listings import table
    from exuvia.isa import cpus

    names = [*cpus(architecture).FEATURES, *GROUPS.get(architecture, {})]
    features = fill(" ".join(sorted(names)), 100, initial_indent="  ", subsequent_indent="  ")
    return f"{table(models(architecture))}\nfeatures, each with + or - in front, or with =on or =off:\n{features}\n"
