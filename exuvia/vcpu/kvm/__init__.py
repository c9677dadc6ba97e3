"""The host's processor through Linux's KVM (Linux, Documentation/virt/kvm/api.rst); see docs/kvm.md."""
