//! The values that have a unit, a range or a choice: durations, sizes, numbers, words, lists.
//!
//! Each function makes a reader for [`Section::read`](super::reader::Section::read).

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::{IpNet, Ipv4Net};
use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Checked, Fault, kind_of, nearest, refuse};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;

type Value<'a> = Spanned<DeValue<'a>>;

/// `true` or `false`.
pub(super) fn boolean(value: &Value<'_>) -> Checked<bool> {
    match value.get_ref() {
        DeValue::Boolean(it) => Ok(*it),
        other => refuse(
            format!("must be true or false, not {}", kind_of(other)),
            "write true or false, without quotes",
        ),
    }
}

/// A string; `wanted` says of what, and `example` shows one.
pub(super) fn string<'v>(value: &'v Value<'_>, wanted: &str, example: &str) -> Checked<&'v str> {
    match value.get_ref() {
        DeValue::String(it) => Ok(it),
        other => refuse(
            format!("must be {wanted}, not {}", kind_of(other)),
            format!("write it in quotes, for example {example:?}"),
        ),
    }
}

/// A whole number within `range`.
pub(super) fn number<T: TryFrom<i64>>(
    range: RangeInclusive<i64>,
) -> impl Fn(&Value<'_>) -> Checked<T> {
    move |value| {
        let it = match value.get_ref() {
            DeValue::Integer(it) => i64::from_str_radix(it.as_str(), it.radix()).ok(),
            other => {
                return refuse(
                    format!("must be a whole number, not {}", kind_of(other)),
                    format!("write a number {}, without quotes", span_of(&range, i64::to_string)),
                );
            }
        };
        match it.filter(|it| range.contains(it)).map(T::try_from) {
            Some(Ok(it)) => Ok(it),
            _ => out_of_range(&range, i64::to_string),
        }
    }
}

/// A number, with or without a fraction, within `range`.
pub(super) fn fraction(range: RangeInclusive<f64>) -> impl Fn(&Value<'_>) -> Checked<f64> {
    move |value| {
        let it = match value.get_ref() {
            DeValue::Float(it) => it.as_str().parse().ok(),
            DeValue::Integer(it) if it.radix() == 10 => it.as_str().parse().ok(),
            other => {
                return refuse(
                    format!("must be a number, not {}", kind_of(other)),
                    format!("write a number {}, without quotes", span_of(&range, f64::to_string)),
                );
            }
        };
        match it.filter(|it: &f64| range.contains(it)) {
            Some(it) => Ok(it),
            None => out_of_range(&range, f64::to_string),
        }
    }
}

/// A duration within `range`: `"30s"`, `"1m 30s"`, `"250ms"`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Value<'_>) -> Checked<Duration> {
    move |value| {
        let text = match value.get_ref() {
            DeValue::Integer(it) => {
                return refuse(
                    "must be a duration with its unit, not a bare number",
                    format!("write \"{it}s\" for seconds, \"{it}ms\" for milliseconds"),
                );
            }
            _ => string(value, "a duration", "30s")?,
        };
        match humantime::parse_duration(text) {
            Ok(it) if range.contains(&it) => Ok(it),
            Ok(_) => out_of_range(&range, show_duration),
            Err(_) => refuse(
                format!("is not a duration: {}", quote(text)),
                "write numbers with their units: \"30s\", \"250ms\", \"1m 30s\"",
            ),
        }
    }
}

/// What `read` takes, or `"off"`.
pub(super) fn or_off<T>(
    read: impl Fn(&Value<'_>) -> Checked<T>,
) -> impl Fn(&Value<'_>) -> Checked<Option<T>> {
    move |value| match value.get_ref() {
        DeValue::String(it) if it == "off" => Ok(None),
        _ => read(value).map(Some).map_err(|mut faults| {
            for help in faults.iter_mut().filter_map(|fault| fault.help.as_mut()) {
                help.push_str(", or \"off\"");
            }
            faults
        }),
    }
}

/// Where a folder is, from `folder` on.
pub(super) fn folder_path(folder: &Path, example: &str) -> impl Fn(&Value<'_>) -> Checked<PathBuf> {
    move |value| {
        let text = string(value, "a path", example)?;
        match is_path(text) {
            true => Ok(folder.join(text)),
            false => refuse(
                format!("is not a path: {}", quote(text)),
                format!("a path has a `/` in it: {example:?}"),
            ),
        }
    }
}

/// A mistyped word must not become a file of that name.
pub(super) fn is_path(text: &str) -> bool {
    text.contains('/') && !text.contains('\0')
}

/// A number of bytes within `range`: `"64KiB"`.
pub(super) fn size<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&Value<'_>) -> Checked<T> {
    move |value| match value.get_ref() {
        DeValue::Integer(it) => refuse(
            "must be a size with its unit, not a bare number",
            format!("write \"{it}KiB\" for KiB, \"{it}B\" for bytes"),
        ),
        _ => {
            let text = string(value, "a size", "64KiB")?;
            match bytes(text) {
                Some(it) => match range.contains(&it).then(|| T::try_from(it)) {
                    Some(Ok(it)) => Ok(it),
                    _ => out_of_range(&range, |bytes| show_size(*bytes)),
                },
                None => refuse(
                    format!("is not a size: {}", quote(text)),
                    "write a number with its unit: \"64KiB\", \"8MiB\", \"500B\"",
                ),
            }
        }
    }
}

/// Bytes per second within `range`: `"240B/s"`.
pub(super) fn rate(range: RangeInclusive<u64>) -> impl Fn(&Value<'_>) -> Checked<u64> {
    move |value| match value.get_ref() {
        DeValue::Integer(it) => refuse(
            "must be a rate with its unit, not a bare number",
            format!("write \"{it}B/s\" for bytes per second"),
        ),
        _ => {
            let text = string(value, "a rate", "240B/s")?;
            match text.strip_suffix("/s").and_then(bytes) {
                Some(it) if range.contains(&it) => Ok(it),
                Some(_) => out_of_range(&range, |bytes| format!("{}/s", show_size(*bytes))),
                None => refuse(
                    format!("is not a rate: {}", quote(text)),
                    "write a number with its unit, per second: \"240B/s\", \"1KiB/s\"",
                ),
            }
        }
    }
}

/// The bytes of a size with its unit.
fn bytes(text: &str) -> Option<u64> {
    // `ByteSize` takes `m` for a megabyte, and a policy would not.
    const UNITS: [&str; 9] = ["B", "KB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB"];
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let ByteSize(bytes) = text.parse().ok().filter(|_| UNITS.contains(&unit))?;
    Some(bytes)
}

/// One of a few words, each with what it stands for.
pub(super) fn word<T: Clone>(words: &[(&str, T)]) -> impl Fn(&Value<'_>) -> Checked<T> {
    move |value| {
        let text = string(value, "a word", words[0].0)?;
        if let Some((_, it)) = words.iter().find(|(name, _)| *name == text) {
            return Ok(it.clone());
        }
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let list = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let help = match (nearest(text, &names), names.len()) {
            (Some(near), _) => format!("did you mean {near:?}? one of {list}"),
            (None, 1) => format!("write {list}, the only choice so far"),
            (None, _) => format!("write one of {list}"),
        };
        refuse(format!("cannot be {}", quote(text)), help)
    }
}

/// An IP address with a port to listen on.
pub(super) fn socket_address(value: &Value<'_>) -> Checked<SocketAddr> {
    let text = string(value, "an IP address with a port", "127.0.0.1:8003")?;
    text.parse().or_else(|_| {
        let help = match text.strip_prefix(':').or(text.strip_prefix("localhost:")) {
            Some(port) if port.parse::<u16>().is_ok() => format!(
                "write \"127.0.0.1:{port}\" for this machine only, \"0.0.0.0:{port}\" for every \
                 IPv4 address of it, \"[::]:{port}\" for IPv6"
            ),
            _ => "write it like \"127.0.0.1:8003\" or \"[::1]:8003\"".to_owned(),
        };
        refuse(format!("is not an IP address with a port: {}", quote(text)), help)
    })
}

/// A network in CIDR notation, or a single address. IPv4 within IPv6 (`::ffff:192.0.2.0/120`) is
/// what it stands for.
pub(super) fn network(value: &Value<'_>) -> Checked<IpNet> {
    const FORM: &str = "write a network like \"10.0.0.0/8\" or \"fd00::/8\", or one address";
    let text = string(value, "a network or an address", "10.0.0.0/8")?;
    let network = match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(address), _) => IpNet::from(address.to_canonical()),
        (_, Ok(network)) => network,
        _ => return refuse(format!("is neither a network nor an address: {}", quote(text)), FORM),
    };
    if network.addr() != network.network() {
        return refuse(
            format!("has bits behind its prefix: {}", quote(text)),
            format!(
                "write \"{}\" for the network, \"{}\" for the address",
                network.trunc(),
                network.addr()
            ),
        );
    }
    Ok(match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.addr().to_ipv4_mapped() {
            Some(address) => Ipv4Net::new_assert(address, mapped.prefix_len() - 96).into(),
            None => network,
        },
        network => network,
    })
}

/// A list of up to `max` items that are all different, as `same` sees it.
pub(super) fn list<T>(
    item: impl Fn(&Value<'_>) -> Checked<T>,
    same: impl Fn(&T, &T) -> bool,
    max: usize,
) -> impl Fn(&Value<'_>) -> Checked<Vec<T>> {
    move |value| {
        let array = match value.get_ref() {
            DeValue::Array(array) => array,
            DeValue::String(text) => {
                let help = format!("put it in brackets: [{}]", quote(text));
                return refuse("must be a list, not a string", help);
            }
            other => {
                let help = "write the items in brackets, with commas between them";
                return refuse(format!("must be a list, not {}", kind_of(other)), help);
            }
        };
        if array.len() > max {
            let help = format!("at most {max} are allowed");
            return refuse(format!("has {} items", array.len()), help);
        }
        let (mut items, mut faults) = (Vec::<T>::with_capacity(array.len()), Vec::new());
        for (index, one) in array.iter().enumerate() {
            match item(one) {
                Ok(it) if items.iter().any(|other| same(other, &it)) => faults.push(Fault {
                    message: "is there a second time".to_owned(),
                    help: Some("leave one of them out".to_owned()),
                    inside: Some((format!("[{index}]"), one.span())),
                }),
                Ok(it) => items.push(it),
                Err(wrong) => faults.extend(wrong.into_iter().map(|fault| {
                    let (below, span) = fault.inside.unwrap_or_else(|| (String::new(), one.span()));
                    Fault { inside: Some((format!("[{index}]{below}"), span)), ..fault }
                })),
            }
        }
        if faults.is_empty() { Ok(items) } else { Err(faults) }
    }
}

/// A text of the file inside of a message: quoted, and not too long.
pub(super) fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn out_of_range<T, U, S: Display>(range: &RangeInclusive<T>, show: impl Fn(&T) -> S) -> Checked<U> {
    refuse("is out of range", format!("write a value {}", span_of(range, show)))
}

fn span_of<T, S: Display>(range: &RangeInclusive<T>, show: impl Fn(&T) -> S) -> String {
    format!("from {} to {}", show(range.start()), show(range.end()))
}

fn show_duration(duration: &Duration) -> String {
    humantime::format_duration(*duration).to_string()
}

pub(super) fn show_size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1024 * GIB && bytes.is_multiple_of(1024 * GIB) => {
            format!("{}TiB", bytes / (1024 * GIB))
        }
        bytes if bytes >= GIB && bytes.is_multiple_of(GIB) => format!("{}GiB", bytes / GIB),
        bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        bytes if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        bytes => format!("{bytes}B"),
    }
}
