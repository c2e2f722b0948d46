//! The machine that "auto" depends on. A value, so that settings are a function of their input.

/// What a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Number of cores.
    pub cores: usize,
    /// Whether its CPU multiplies 8-bit integers fast and exactly.
    pub int8: Int8,
}

impl Machine {
    /// Creates a machine without special instructions.
    pub fn with_cores(cores: usize) -> Self {
        Self { cores, int8: Int8::NoVnni }
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
    /// Returns what the CPU that runs this has.
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

    /// Returns what the CPU that runs this has.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn detect() -> Self {
        Self::NotX86
    }
}
