//! Where a function of a number changes its sign.

/// Steps, after which 32 bits are exact.
const STEPS: usize = 40;

/// Returns where `is_low` changes from true to false between two numbers.
pub fn bisect(mut low: f64, mut high: f64, is_low: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if is_low(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}
