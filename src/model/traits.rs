//! Metadata of an instance that picks go by, found in the text of its payload.

use super::json::Object;
use super::payload::Payload;
use serde_json::value::RawValue;

pub(super) const METADATA: &str = "metadata";
pub(super) const WEIGHT: &str = "weight";
pub(super) const ZONE: &str = "zone";
pub(super) const STATUS: &str = "instance_status";
pub(super) const UP: &str = "UP";

/// The metadata that picks go by, of an instance that has any.
#[derive(Clone, Debug)]
pub(super) struct Traits {
    pub(super) weight: u32,
    pub(super) zone: Option<Box<str>>,
    /// Set where the instance is not to be picked, in the way in which Spring Cloud ZooKeeper says so.
    pub(super) is_out_of_service: bool,
}

impl Traits {
    pub(super) fn of(payload: Option<&Payload>) -> Option<Box<Traits>> {
        let [weight, zone, status] = find(payload?.text(), [WEIGHT, ZONE, STATUS]);
        let zone = zone.and_then(text).filter(|zone| !zone.is_empty());
        let status = status.and_then(text);
        let traits = Traits {
            weight: weight.and_then(positive).unwrap_or(1),
            zone: zone.map(String::into_boxed_str),
            is_out_of_service: status.is_some_and(|status| {
                !status.trim().is_empty() && !status.eq_ignore_ascii_case(UP)
            }),
        };
        let says_something =
            traits.weight != 1 || traits.zone.is_some() || traits.is_out_of_service;
        says_something.then(|| Box::new(traits))
    }
}

/// Returns what stands under each of the keys.
pub(super) fn find<'a, const N: usize>(
    payload: &'a str,
    keys: [&'a str; N],
) -> [Option<&'a RawValue>; N] {
    let metadata = Object::parse(payload, [METADATA]).ok();
    let metadata = metadata.and_then(|payload| payload.get(METADATA));
    let metadata = metadata.and_then(|metadata| Object::parse(metadata.get(), keys).ok());
    let payload = Object::parse(payload, keys).ok();
    keys.map(|key| {
        let within = metadata.as_ref().and_then(|metadata| metadata.get(key));
        within.or_else(|| payload.as_ref()?.get(key))
    })
}

pub(super) fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn positive(raw: &RawValue) -> Option<u32> {
    let number = serde_json::from_str::<u64>(raw.get()).ok();
    let number = number.or_else(|| text(raw)?.trim().parse().ok());
    let number = number.filter(|number| *number > 0)?;
    Some(u32::try_from(number).unwrap_or(u32::MAX))
}
