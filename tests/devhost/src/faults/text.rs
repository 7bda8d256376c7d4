// SPDX-License-Identifier: BSD-2-Clause

//! Faults, as the command line names them.

use super::fault::{Fault, Kind, NAMED, Ops};
use std::ops::Range;
use std::time::Duration;

/// Bus, slot and function of a device.
pub type Place = (u8, u8, u8);

/// Reads `[[BUS:]SLOT[:FUNCTION]],KIND[,of=OPS][,lba=FIRST-LAST][,rate=RATE]
/// [,skip=N][,times=N][,seed=N]`; `devhost --help` tells what each means.
///
/// # Errors
/// One line that names what is wrong and what is allowed.
pub fn parse(text: &str) -> Result<(Place, Fault), String> {
    let wrong = |what: String| format!("--fault {text}: {what}");
    let mut words = text.split(',');
    let place = words.next().and_then(place).ok_or_else(|| {
        wrong("it must start with SLOT, SLOT:FUNCTION or BUS:SLOT:FUNCTION".to_owned())
    })?;
    let kind = words.next().unwrap_or_default();
    let kind = parse_kind(kind).ok_or_else(|| {
        let names = NAMED.map(|(name, _)| name).join(", ");
        wrong(format!("'{kind}' is none of delay=TIME, {names}"))
    })?;
    let mut fault = Fault::always(kind);
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        set(&mut fault, name, value).ok_or_else(|| {
            wrong(format!(
                "'{word}' is none of of=read+write+flush, lba=FIRST-LAST, rate=0..1, skip=N, \
                 times=N, seed=N"
            ))
        })?;
    }
    if kind == Kind::EINTR && fault.per_million == 1_000_000 && fault.times == u64::MAX {
        return Err(wrong("a call that is always interrupted never ends: give a rate".to_owned()));
    }
    Ok((place, fault))
}

fn place(text: &str) -> Option<Place> {
    let numbers: Vec<u8> = text.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    match numbers[..] {
        [slot] => Some((0, slot, 0)),
        [slot, function] => Some((0, slot, function)),
        [bus, slot, function] => Some((bus, slot, function)),
        _ => None,
    }
}

fn parse_kind(text: &str) -> Option<Kind> {
    if let Some(value) = text.strip_prefix("delay=") {
        return time(value).map(Kind::Delay);
    }
    NAMED.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind)
}

/// A number of s, ms or us.
fn time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number = number.parse::<u32>().ok()?;
    match unit {
        "s" => Some(Duration::from_secs(number.into())),
        "ms" => Some(Duration::from_millis(number.into())),
        "us" => Some(Duration::from_micros(number.into())),
        _ => None,
    }
}

fn set(fault: &mut Fault, name: &str, value: &str) -> Option<()> {
    match name {
        "of" => fault.on = ops(value)?,
        "lba" => {
            let Range { start, end } = sectors(value)?;
            *fault = fault.clone().at(start..end);
        }
        "rate" => {
            let rate = value.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate))?;
            fault.per_million = (rate * 1e6).round() as u32;
        }
        "skip" => fault.skip = value.parse().ok()?,
        "times" => fault.times = value.parse().ok()?,
        "seed" => fault.seed = value.parse().ok()?,
        _ => return None,
    }
    Some(())
}

fn ops(text: &str) -> Option<Ops> {
    let mut ops = Ops::default();
    for word in text.split('+') {
        match word {
            "read" => ops.read = true,
            "write" => ops.write = true,
            "flush" => ops.flush = true,
            _ => return None,
        }
    }
    Some(ops)
}

/// `FIRST-LAST`, or one number.
fn sectors(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    (first <= last).then(|| last.checked_add(1)).flatten().map(|end| first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_what_its_words_say() {
        let ms = |n| Kind::Delay(Duration::from_millis(n));
        for (text, place, fault) in [
            ("4,never", (0, 4, 0), Fault::always(Kind::Never)),
            ("4:1,delay=100ms", (0, 4, 1), Fault::always(ms(100))),
            (
                "1:4:0,eio,of=read+flush,rate=0.01",
                (1, 4, 0),
                Fault::always(Kind::EIO)
                    .on(Ops { read: true, write: false, flush: true })
                    .per_million(10_000),
            ),
            (
                "4,enospc,lba=1000-1999,of=write,skip=3,times=2",
                (0, 4, 0),
                Fault::always(Kind::ENOSPC).on(Ops::WRITE).at(1000..2000).after(3).times(2),
            ),
            ("4,short,lba=7", (0, 4, 0), Fault::always(Kind::Short).at(7..8)),
            (
                "4,eintr,rate=0.5,seed=9",
                (0, 4, 0),
                Fault { seed: 9, ..Fault::always(Kind::EINTR).per_million(500_000) },
            ),
            ("4,delay=2s", (0, 4, 0), Fault::always(ms(2000))),
            ("4,delay=7us", (0, 4, 0), Fault::always(Kind::Delay(Duration::from_micros(7)))),
        ] {
            assert_eq!(parse(text), Ok((place, fault)), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("", "must start with"),
            ("x,never", "must start with"),
            ("4", "'' is none of"),
            ("4,delay=100", "'delay=100'"),
            ("4,delay=ms", "'delay=ms'"),
            ("4,always", "'always'"),
            ("4,eio,rate=2", "'rate=2'"),
            ("4,eio,rate=nan", "'rate=nan'"),
            ("4,eio,lba=2-1", "'lba=2-1'"),
            ("4,eio,lba=0-18446744073709551615", "'lba=0"),
            ("4,eio,of=reads", "'of=reads'"),
            ("4,eio,often", "'often'"),
            ("4,eintr", "give a rate"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says) && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for (name, kind) in NAMED {
            assert_eq!(kind.to_string(), name);
        }
        assert_eq!(Kind::Delay(Duration::from_millis(100)).to_string(), "delay=100ms");
    }
}
