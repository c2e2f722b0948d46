//! The machine that "auto" depends on. A value, so that settings are a function of their input.

use std::path::Path;

/// Where `make setup` installs ONNX Runtime and the models, below the current folder.
pub(super) const ASSETS: &str = ".assets";

/// The properties of a machine on which settings depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Number of cores.
    pub cores: usize,
    /// Whether its CPU multiplies 8-bit integers fast and exactly.
    pub int8: Int8,
    /// Folder with the ONNX Runtime and the models of an installed program. `None`: they are where set-up installs them.
    pub installed: Option<&'static Path>,
}

impl Machine {
    /// Creates a machine without special instructions, on which nothing is installed.
    pub fn with_cores(cores: usize) -> Self {
        Self { cores, int8: Int8::NoVnni, installed: None }
    }
}

/// The instructions of a CPU for products of 8-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8 {
    /// x86-64 with AVX-512 VNNI.
    Avx512Vnni,
    /// x86-64 with AVX-VNNI.
    AvxVnni,
    /// x86-64 without VNNI: sums of two products are kept in 16 bits, and may saturate.
    NoVnni,
    /// Another architecture, on which int8 models were not measured.
    NotX86,
}

impl Int8 {
    /// Returns what the current CPU supports.
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Self {
        if is_x86_feature_detected!("avx512vnni") {
            Self::Avx512Vnni
        } else if is_x86_feature_detected!("avxvnni") {
            Self::AvxVnni
        } else {
            Self::NoVnni
        }
    }

    /// Returns what the current CPU supports.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn detect() -> Self {
        Self::NotX86
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn int8_support_is_detected_from_the_cpu_flags() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").expect("readable");
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
        let has = |flag| flags.is_some_and(|flags| flags.split_whitespace().any(|f| f == flag));
        let expected = match (cfg!(target_arch = "x86_64"), has("avx512_vnni"), has("avx_vnni")) {
            (false, _, _) => Int8::NotX86,
            (true, true, _) => Int8::Avx512Vnni,
            (true, false, true) => Int8::AvxVnni,
            (true, false, false) => Int8::NoVnni,
        };
        assert_eq!(Int8::detect(), expected);
    }
}
