//! Session time zones: `table.local-time-zone`, and the zones that functions name.

use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{OffsetComponents, Tz};

/// A time zone: one of the tz database, or a fixed offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// A region with its history of offsets.
    Named(Tz),
    /// An offset that never changes.
    Fixed(FixedOffset),
}

/// 1900: the first that Java's older calendar knows of a zone, in milliseconds since 1970.
const FIRST_TRANSITION: i64 = -2_208_988_800_000;

impl Zone {
    /// UTC.
    pub const UTC: Self = Self::Named(Tz::UTC);

    /// A zone by its name in the tz database (`Europe/Rome`), or as `Z`, `UTC+8`, `GMT-08:00`, `+05:30`; `default`
    /// is UTC. `None` for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        if matches!(name, "default" | "Z") {
            return Some(Self::UTC);
        }
        if let Ok(zone) = name.parse::<Tz>() {
            return Some(Self::Named(zone));
        }
        let offset = ["UTC", "GMT", "UT"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let (sign, digits) = match offset.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, offset.strip_prefix('+')?),
        };
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
        let number = |text: &str| text.parse::<i32>().ok().filter(|_| (1..=2).contains(&text.len()));
        let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
        if hours > 18 {
            return None;
        }
        FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60)).map(Self::Fixed)
    }

    /// A zone as Java's `TimeZone.getTimeZone` reads it: what it does not know is GMT.
    pub fn parse_java(name: &str) -> Self {
        Self::Named(match name {
            "PST" => Tz::America__Los_Angeles,
            "CST" => Tz::America__Chicago,
            "AST" => Tz::America__Anchorage,
            "JST" => Tz::Asia__Tokyo,
            "IST" => Tz::Asia__Kolkata,
            "CTT" => Tz::Asia__Shanghai,
            "ECT" => Tz::Europe__Paris,
            "AET" => Tz::Australia__Sydney,
            // of offsets only those from GMT
            _ if name.starts_with(['+', '-', 'Z', 'U']) => Tz::UTC,
            _ => return Self::parse(name).unwrap_or(Self::UTC),
        })
    }

    /// Milliseconds that the wall clock is ahead of UTC at an instant (in milliseconds).
    fn offset(self, millis: i64) -> i64 {
        let seconds = match self {
            Self::Named(Tz::UTC) => 0,
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(zone) => DateTime::from_timestamp_millis(millis)
                .map_or(0, |utc| zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()),
        };
        i64::from(seconds) * 1000
    }

    /// The wall clock (milliseconds) of an instant.
    pub fn local(self, millis: i64) -> i64 {
        millis.saturating_add(self.offset(millis))
    }

    /// The instant of a wall clock: one in a gap goes forward by the gap, of an ambiguous one the earlier counts.
    pub fn instant(self, local: i64) -> i64 {
        self.resolve(local, false)
    }

    /// The last instant at which a wall clock stood so: when a window of wall-clock time is complete.
    pub fn instant_late(self, local: i64) -> i64 {
        self.resolve(local, true)
    }

    /// As [`Zone::local`] in Java's older calendar, which knows nothing of a zone before 1900 but its standard offset.
    pub fn local_of_calendar(self, millis: i64) -> i64 {
        if millis < FIRST_TRANSITION { millis.saturating_add(self.standard()) } else { self.local(millis) }
    }

    /// As [`Zone::instant_late`] in Java's older calendar.
    pub fn instant_of_calendar(self, local: i64) -> i64 {
        let standard = local.saturating_sub(self.standard());
        if standard < FIRST_TRANSITION { standard } else { self.instant_late(local) }
    }

    /// Milliseconds that the zone is ahead of UTC by its present standard.
    fn standard(self) -> i64 {
        let seconds = match self {
            Self::Fixed(offset) => i64::from(offset.local_minus_utc()),
            Self::Named(zone) => {
                zone.offset_from_utc_datetime(&Utc::now().naive_utc()).base_utc_offset().num_seconds()
            }
        };
        seconds * 1000
    }

    fn resolve(self, local: i64, late: bool) -> i64 {
        let zone = match self {
            Self::Named(Tz::UTC) => return local,
            Self::Fixed(_) => return local.saturating_sub(self.offset(local)),
            Self::Named(zone) => zone,
        };
        let Some(at) = DateTime::from_timestamp_millis(local) else { return local };
        let naive: NaiveDateTime = at.naive_utc();
        let offset = match zone.offset_from_local_datetime(&naive) {
            chrono::LocalResult::Ambiguous(_, second) if late => second,
            chrono::LocalResult::Single(offset) | chrono::LocalResult::Ambiguous(offset, _) => offset,
            chrono::LocalResult::None => zone.offset_from_utc_datetime(&(naive - chrono::Duration::days(1))),
        };
        local - i64::from(offset.fix().local_minus_utc()) * 1000
    }

    /// The zone's short name at an instant (`CET`), as a fixed offset `GMT+05:30`.
    pub fn short_name(self, millis: i64) -> String {
        match self {
            Self::Named(zone) => DateTime::from_timestamp_millis(millis)
                .map(|at| at.with_timezone(&zone).format("%Z").to_string())
                .unwrap_or_default(),
            Self::Fixed(offset) => format!("GMT{offset}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_offsets() {
        let hours = |name: &str| Zone::parse(name).map(|zone| zone.local(0) / 60_000);
        assert_eq!(hours("Asia/Kathmandu"), Some(330));
        assert_eq!(hours("GMT+05:45"), Some(345));
        assert_eq!(hours("UTC-8"), Some(-480));
        assert_eq!(hours("-03:30"), Some(-210));
        assert_eq!(hours("default"), Some(0));
        for bad in ["Mars/Base", "GMT+", "+25", "+1:60", "+100", "05:30", ""] {
            assert_eq!(Zone::parse(bad), None, "{bad}");
        }
        assert_eq!(Zone::parse_java("Mars/Base"), Zone::UTC);
        assert_eq!(Zone::parse_java("GMT+05:30").local(0), 19_800_000);
    }

    #[test]
    fn gaps_and_hours_that_come_twice() {
        let berlin = Zone::Named(Tz::Europe__Berlin);
        let hour = 3_600_000;
        // 2024-03-31 02:30 does not exist, 2024-10-27 02:30 comes twice
        let (gap, twice) = (1_711_852_200_000, 1_729_996_200_000);
        assert_eq!(berlin.local(berlin.instant(gap)), gap + hour);
        assert_eq!(berlin.instant_late(twice) - berlin.instant(twice), hour);
    }
}
