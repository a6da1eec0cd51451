//! Durations and sizes as people write them.
//!
//! Only text to number; which numbers make sense is for the setting to say.

use std::time::Duration;

/// Reads `500ms`, `30s`, `2m`, `1h`, `14d` or whole seconds; `None` where it is none of them.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Reads `64KiB`, `1MiB`, `2GiB`, `10MB`, `512B` or bytes; `None` where it is none of them.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "B" | "" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// Splits `30s` and `30 s` into number and unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// A duration as [`duration`] reads it, in the largest unit that keeps it whole.
pub(super) fn spell_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    unit.map_or(format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// A size as [`size`] reads it, in the largest unit that keeps it whole.
pub(super) fn spell_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or(format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000), (" 7 ", 7000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1w", "1 m s", "99999999999999999999s", "18446744073709551615s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("1MiB", 1 << 20), ("64KiB", 65_536), ("2 GB", 2_000_000_000), ("0", 0), ("512B", 512)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1mib", "1 TiB", "1.5MiB", "18446744073709551615KiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_spelled_is_read_back() {
        for millis in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000] {
            let given = Duration::from_millis(millis);
            assert_eq!(duration(&spell_duration(given)), Some(given), "{millis}");
        }
        for bytes in [0, 1, 1023, 1024, 1025, 1 << 20, 3 << 30] {
            assert_eq!(size(&spell_size(bytes)), Some(bytes), "{bytes}");
        }
    }
}
