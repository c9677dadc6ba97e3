"""-cpu: QEMU's ways to say what a processor has."""

import pytest

from exuvia.cli.cpu import ABSENT, described, listed
from exuvia.isa import cpus
from exuvia.support.errors import UserError


@pytest.mark.parametrize(
    ("architecture", "text", "features"),
    [
        ("x86", "qemu64,avx=off", {"avx": False}),
        ("x86", "max,+aes,-sse4.2", {"aes": True, "sse4_2": False}),
        ("x86", "max,avx2=on,vendor=AuthenticAMD", {"avx2": True}),
        ("x86", "max,avx2=yes,aes=false", {"avx2": True, "aes": False}),
        ("x86", "qemu64,family=15,model=107,stepping=1,model-id=Exuvia Virtual CPU version 1.0", {}),
        ("x86", "qemu64,check,enforce=on,check=off", {}),
        ("x86", "qemu64,-svm,x2apic=off,tsc_deadline=off,pmu=off,phys-bits=40", {}),
        ("x86", "host,-avx", {"avx": False}),
        ("x86", "host,migratable=on", {"constant_tsc": False}),
        ("x86", "max,migratable=off", {}),
        ("aarch64", "max,pauth=off", {"paca": False, "pacg": False}),
        ("aarch64", "max,pauth=on,pauth-impdef=on", {"paca": True, "pacg": True}),
        ("aarch64", "cortex-a57,aarch64=on,pmu=off", {}),
        ("aarch64", "max,sve=off,-sme,lse=off", {"atomics": False}),
        ("mips", "24Kf", {}),
    ],
)
def test_features(architecture: str, text: str, features: dict[str, bool]) -> None:
    assert described("-cpu", architecture, text) == (text.partition(",")[0], list(features.items()))


def test_words_and_signs_make_the_same_model() -> None:
    for architecture, one, other in (("x86", "+avx2,-aes", "avx2=on,aes=off"), ("aarch64", "-paca,-pacg", "pauth=off")):
        models = []
        for text in (one, other):
            name, features = described("-cpu", architecture, f"max,{text}")
            models.append(cpus(architecture).model(name, [("+" if on else "-") + feature for feature, on in features]))
        assert models[0].features == models[1].features < cpus(architecture).model("max").features


@pytest.mark.parametrize(
    ("architecture", "text", "message"),
    [
        ("x86", "qemu63", "unknown processor model 'qemu63'"),
        ("x86", "qemu64,vendor=GenuineIntel", "vendor of qemu64 is AuthenticAMD and cannot be chosen, leave vendor=GenuineIntel out"),
        ("x86", "qemu64,+vmx", "there is no processor feature 'vmx' here, it can only be off"),
        ("x86", "qemu64,avx512f=on", "there is no processor feature 'avx512f' here, it can only be off"),
        ("x86", "host,-vmx", "unknown processor feature 'vmx'"),  # it would stay
        ("x86", "host,vendor=GenuineIntel", "-cpu: feature 'vendor' is on or off, not 'GenuineIntel'"),
        ("x86", "max,sse9=on", "unknown processor feature 'sse9'; did you mean sse"),
        ("x86", "max,+", "unknown processor feature ''; there are "),
        ("x86", "max,aes=perhaps", "-cpu: feature 'aes' is on or off, not 'perhaps'"),
        ("aarch64", "max,pauht=on", "unknown processor feature 'pauht'; did you mean pauth"),
        ("aarch64", "max,zzz=on", "unknown processor feature 'zzz'; there are aarch64 aes .* sm4$"),
        ("aarch64", "max,aarch64=off", "aarch64 of max is on and cannot be chosen"),
        ("aarch64", "max,sve=on", "there is no processor feature 'sve'"),
        ("mips", "24Kf,dsp=on", "MIPS processors have none that can be chosen"),
    ],
)
def test_what_is_refused(architecture: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        described("-cpu", architecture, text)


@pytest.mark.parametrize("architecture", ["x86", "aarch64"])
def test_what_is_absent_is_no_feature(architecture: str) -> None:
    there = cpus(architecture)
    assert not {word.replace("-", "_") for word in ABSENT[architecture].split()} & {*there.FEATURES, *there.ALIASES}
    assert "pauth" in listed("aarch64")
