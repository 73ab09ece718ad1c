//! The bytes of an instance in ZooKeeper, as Apache Curator writes and reads them.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

use super::payload::Payload;
use super::{Fields, ServiceInstance, ServiceType};
use crate::excerpt::excerpt;
use crate::model::json::{self, Object, boolean, kind, scalar, shown, text};
use crate::model::uri_spec::UriSpec;
use crate::model::url;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// An instance with Curator's names, in Curator's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire<'a> {
    name: &'a str,
    id: &'a str,
    address: Option<&'a str>,
    port: Option<u16>,
    ssl_port: Option<u16>,
    payload: Option<&'a Payload>,
    #[serde(rename = "registrationTimeUTC")]
    registration_time_utc: Option<i64>,
    service_type: &'static str,
    uri_spec: Option<&'a UriSpec>,
    // Curator 2.7 refuses a field it does not know, so this one is there only where it says something.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
}

impl Wire<'_> {
    pub(super) fn of(instance: &ServiceInstance) -> Wire<'_> {
        let fields = instance.fields();
        Wire {
            name: &fields.name,
            id: &fields.id,
            address: fields.address.as_deref(),
            port: fields.port,
            ssl_port: fields.ssl_port,
            payload: fields.payload.as_ref(),
            registration_time_utc: fields.registration_time_utc,
            service_type: fields.service_type.wire_name(),
            uri_spec: fields.uri_spec.as_ref(),
            enabled: (!fields.enabled).then_some(false),
        }
    }
}

impl ServiceInstance {
    /// Returns the bytes that Curator would write.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        json::to_vec(&Wire::of(self))
    }

    /// Reads what somebody wrote to the node `znode` of the service `name`, as leniently as Curator.
    ///
    /// The error has nothing of the payload.
    pub(crate) fn from_json(
        name: &str,
        znode: &str,
        data: &[u8],
    ) -> Result<ServiceInstance, Unusable> {
        let json = parse(data)?;
        Ok(ServiceInstance::new(Fields {
            // What a writer left out, the path tells.
            name: read(&json, "name", "a text", text)?.map_or_else(|| name.into(), Arc::from),
            id: read(&json, "id", "a text", text)?.map_or_else(|| znode.into(), Box::from),
            address: read(&json, "address", url::EXPECTED, address)?.flatten(),
            port: read(&json, "port", PORT, port)?,
            ssl_port: read(&json, "sslPort", PORT, port)?,
            payload: payload(&json)?,
            registration_time_utc: read(&json, "registrationTimeUTC", MILLIS, integer)?,
            service_type: read(&json, "serviceType", SERVICE_TYPE, service_type)?
                .unwrap_or(ServiceType::Dynamic),
            uri_spec: uri_spec(&json)?,
            enabled: read(&json, "enabled", "true or false", boolean)?.unwrap_or(true),
        }))
    }
}

/// The reason why what a node holds is no instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Empty,
    NotJson(String),
    /// Another kind of JSON.
    NotObject(&'static str),
    /// A field holds something else than expected.
    Field {
        name: &'static str,
        found: String,
        expected: &'static str,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Empty => f.write_str("the data is empty"),
            Unusable::NotJson(why) => write!(f, "the data is not JSON: {why}"),
            Unusable::NotObject(kind) => write!(f, "the data is {kind}, expected an object"),
            Unusable::Field {
                name,
                found,
                expected,
            } => write!(f, "{name} is {found}, expected {expected}"),
        }
    }
}

impl From<serde_json::Error> for Unusable {
    fn from(error: serde_json::Error) -> Unusable {
        Unusable::NotJson(error.to_string())
    }
}

const FIELDS: [&str; 10] = [
    "name",
    "id",
    "address",
    "port",
    "sslPort",
    "payload",
    "registrationTimeUTC",
    "serviceType",
    "uriSpec",
    "enabled",
];
const PORT: &str = "a number from 1 to 65535";
const MILLIS: &str = "milliseconds since 1970";
const SERVICE_TYPE: &str = "one of DYNAMIC, STATIC, PERMANENT and DYNAMIC_SEQUENTIAL";

/// The fields of an instance.
type Known<'a> = Object<'a, 10>;

fn parse(data: &[u8]) -> Result<Known<'_>, Unusable> {
    if data.is_empty() {
        return Err(Unusable::Empty);
    }
    let raw: &RawValue = serde_json::from_slice(data)?;
    match kind(raw) {
        "an object" => Ok(Object::parse(raw.get(), FIELDS)?),
        other => Err(Unusable::NotObject(other)),
    }
}

fn read<T>(
    json: &Known<'_>,
    field: &'static str,
    expected: &'static str,
    convert: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, Unusable> {
    let Some(raw) = json.get(field) else {
        return Ok(None);
    };
    let value = scalar(raw)?;
    match value.as_ref().and_then(convert) {
        Some(converted) => Ok(Some(converted)),
        None => Err(Unusable::Field {
            name: field,
            found: shown(raw),
            expected,
        }),
    }
}

fn payload(json: &Known<'_>) -> Result<Option<Payload>, Unusable> {
    let payload = json.get("payload").map(Payload::from_wire);
    Ok(payload.transpose()?.flatten())
}

fn uri_spec(json: &Known<'_>) -> Result<Option<UriSpec>, Unusable> {
    let Some(raw) = json.get("uriSpec") else {
        return Ok(None);
    };
    let unusable = |found, expected| Unusable::Field {
        name: "uriSpec",
        found,
        expected,
    };
    let spec = UriSpec::from_wire(raw).map_err(|expected| unusable(shown(raw), expected))?;
    match spec.check() {
        Ok(()) => Ok(Some(spec)),
        Err(expected) => {
            let found = format!("{:?}", excerpt(&spec.to_string()));
            Err(unusable(found, expected))
        }
    }
}

// These conversions are among those Jackson makes by default.

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

// Writers in languages with one type of number may write `8080.0`.
fn whole(number: f64) -> Option<i64> {
    // Beyond 2^53 a float skips integers, and cannot tell which one was meant.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

fn port(value: &Value) -> Option<u16> {
    let port = u16::try_from(integer(value)?).ok()?;
    (port != 0).then_some(port)
}

/// Reads an address. An empty one is none.
fn address(value: &Value) -> Option<Option<Box<str>>> {
    let address = text(value)?;
    match address.is_empty() {
        true => Some(None),
        false => url::host(&address).is_ok().then(|| Some(address.into())),
    }
}

fn service_type(value: &Value) -> Option<ServiceType> {
    // The names of Java's constants are exact, so `dynamic` is none of them.
    ServiceType::from_wire(value.as_str()?)
}

/// Writes the instance as it stands in ZooKeeper, the payload included.
impl std::fmt::Display for ServiceInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_json()))
    }
}

/// Writes the instance in the form of its node in ZooKeeper.
impl Serialize for ServiceInstance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire::of(self).serialize(serializer)
    }
}

/// Reads the form of a node in ZooKeeper, as leniently as Curator does. The name and the id are required.
impl<'de> Deserialize<'de> for ServiceInstance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ServiceInstance, D::Error> {
        let value = Value::deserialize(deserializer)?;
        for field in ["name", "id"] {
            if value.get(field).is_none_or(Value::is_null) {
                return Err(D::Error::missing_field(field));
            }
        }
        ServiceInstance::from_value(&value)
    }
}

impl ServiceInstance {
    pub(in crate::model) fn from_value<E: serde::de::Error>(
        value: &Value,
    ) -> Result<ServiceInstance, E> {
        let data = serde_json::to_vec(value).map_err(E::custom)?;
        ServiceInstance::from_json("", "", &data).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WITH_SPEC: &str = r#"{"name":"foo","id":"227f8803-74d9-41b1-802d-81e527b4d755","address":"10.0.0.1","port":5000,"sslPort":null,"payload":null,"registrationTimeUTC":1795462086221,"serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"/1.x/users/","variable":false},{"value":"userid","variable":true}]}}"#;
    const NO_SPEC: &str = r#"{"name":"no-uri-spec","id":"97724af4-1365-4f30-911e-b2811551190a","address":"10.0.0.1","port":5000,"sslPort":null,"payload":null,"registrationTimeUTC":1795462086455,"serviceType":"DYNAMIC","uriSpec":null}"#;
    const SSL: &str = r#"{"name":"ssl","id":"i","address":"10.0.0.1","port":8080,"sslPort":8443,"payload":null,"registrationTimeUTC":1387297218261,"serviceType":"DYNAMIC","uriSpec":null}"#;

    fn with_spec() -> ServiceInstance {
        ServiceInstance::new(Fields {
            address: Some("10.0.0.1".into()),
            port: Some(5000),
            registration_time_utc: Some(1_795_462_086_221),
            uri_spec: Some("/1.x/users/{userid}".parse().unwrap()),
            ..Fields::new("foo", "227f8803-74d9-41b1-802d-81e527b4d755")
        })
    }

    fn ssl() -> Fields {
        Fields {
            address: Some("10.0.0.1".into()),
            port: Some(8080),
            ssl_port: Some(8443),
            registration_time_utc: Some(1_387_297_218_261),
            ..Fields::new("ssl", "i")
        }
    }

    fn json_of(fields: Fields) -> String {
        String::from_utf8(ServiceInstance::new(fields).to_json()).unwrap()
    }

    fn read_text(data: &str) -> Result<ServiceInstance, String> {
        let read = ServiceInstance::from_json("service", "znode", data.as_bytes());
        read.map_err(|unusable| unusable.to_string())
    }

    /// Reads an instance that has one field.
    fn with(field: &str, value: Value) -> Result<ServiceInstance, String> {
        read_text(&json!({field: value}).to_string())
    }

    fn payload_of(json: &str) -> Option<Value> {
        let data = format!(r#"{{"payload":{json}}}"#);
        read_text(&data).unwrap().payload()
    }

    #[test]
    fn an_instance_with_a_uri_spec_is_written_as_curator_writes_it() {
        assert_eq!(String::from_utf8(with_spec().to_json()).unwrap(), WITH_SPEC);
    }

    #[test]
    fn an_instance_without_a_uri_spec_is_written_as_curator_writes_it() {
        let fields = Fields {
            address: Some("10.0.0.1".into()),
            port: Some(5000),
            registration_time_utc: Some(1_795_462_086_455),
            ..Fields::new("no-uri-spec", "97724af4-1365-4f30-911e-b2811551190a")
        };
        assert_eq!(json_of(fields), NO_SPEC);
    }

    #[test]
    fn an_instance_with_an_ssl_port_is_written_as_curator_writes_it() {
        assert_eq!(json_of(ssl()), SSL);
    }

    #[test]
    fn what_curator_wrote_reads_and_writes_back_byte_for_byte() {
        for data in [WITH_SPEC, NO_SPEC, SSL] {
            let written = read_text(data).unwrap().to_json();
            assert_eq!(String::from_utf8(written).unwrap(), data);
        }
        assert_eq!(read_text(WITH_SPEC), Ok(with_spec()));
        assert_eq!(read_text(SSL), Ok(ServiceInstance::new(ssl())));
    }

    #[test]
    fn what_is_recorded_of_curator_reads_and_writes_back_byte_for_byte() {
        let recorded = crate::model::golden::golden("instance");
        assert!(recorded.len() > 20, "only {} files", recorded.len());
        for data in recorded {
            let data = String::from_utf8(data).unwrap();
            let written = String::from_utf8(read_text(&data).unwrap().to_json()).unwrap();
            // A field that is left to its default.
            let plain = data.replace(r#","enabled":true}"#, "}");
            assert_eq!(written, plain);
        }
    }

    #[test]
    fn an_empty_uri_spec_has_no_parts() {
        let data = SSL.replace(r#""uriSpec":null"#, r#""uriSpec":{"parts":[]}"#);
        let uri_spec = Some("".parse().unwrap());
        assert_eq!(json_of(Fields { uri_spec, ..ssl() }), data);
        assert_eq!(
            read_text(&data).unwrap().uri_spec().unwrap().to_string(),
            ""
        );
    }

    #[test]
    fn only_an_instance_that_is_switched_off_says_so_in_the_last_field() {
        let off = json_of(Fields {
            enabled: false,
            ..ssl()
        });
        assert_eq!(
            off,
            SSL.replace(r#""uriSpec":null}"#, r#""uriSpec":null,"enabled":false}"#)
        );
        assert!(!SSL.contains("enabled"));
        assert!(!read_text(&off).unwrap().is_enabled());
    }

    #[test]
    fn text_is_utf8_and_a_slash_is_not_escaped() {
        let uri_spec = Some("/grüße/€🎉/{\"\\}".parse().unwrap());
        let json = json_of(Fields {
            uri_spec,
            ..Fields::new("日本/", "i")
        });
        assert!(json.starts_with(r#"{"name":"日本/","id":"i","#), "{json}");
        assert!(
            json.contains(
                r#"{"value":"/grüße/€\uD83C\uDF89/","variable":false},{"value":"\"\\","variable":true}"#
            ),
            "{json}"
        );
        let back = read_text(&json).unwrap();
        assert_eq!(back.name(), "日本/");
        assert_eq!(back.uri_spec().unwrap().to_string(), "/grüße/€🎉/{\"\\}");
    }

    #[test]
    fn nothing_is_left_out_where_nothing_is_known() {
        let expected = r#"{"name":"a","id":"b","address":null,"port":null,"sslPort":null,"payload":null,"registrationTimeUTC":null,"serviceType":"DYNAMIC","uriSpec":null}"#;
        assert_eq!(json_of(Fields::new("a", "b")), expected);
    }

    #[test]
    fn payloads_are_written_in_the_forms_curator_reads() {
        for (payload, expected) in [
            (json!({"zone": "eu"}), r#""payload":{"zone":"eu"},"#),
            (
                json!(["a", 1]),
                r#""payload":["java.util.ArrayList",["a",1]],"#,
            ),
            (json!("eu"), r#""payload":"eu","#),
            (json!(1), r#""payload":1,"#),
            (json!(true), r#""payload":true,"#),
            (json!(null), r#""payload":null,"#),
        ] {
            let json = json_of(Fields {
                payload: Payload::new(&payload),
                ..ssl()
            });
            assert_eq!(json, SSL.replace(r#""payload":null,"#, expected));
            let back = read_text(&json).unwrap().payload();
            assert_eq!(back.unwrap_or(Value::Null), payload);
        }
    }

    #[test]
    fn payloads_of_any_shape_are_read() {
        let map = r#"{"@class":"java.util.HashMap","zone":"eu","nested":{"a":1}}"#;
        assert_eq!(
            payload_of(map),
            Some(json!({"zone": "eu", "nested": {"a": 1}}))
        );
        let list = r#"["java.util.ArrayList",["a",1]]"#;
        assert_eq!(payload_of(list), Some(json!(["a", 1])));
        for other in [
            r#""eu""#,
            "1",
            "1.5",
            "true",
            "{}",
            "[]",
            r#"["a",{"b":null}]"#,
        ] {
            let expected: Value = serde_json::from_str(other).unwrap();
            assert_eq!(payload_of(other), Some(expected));
        }
        assert_eq!(payload_of("null"), None);
    }

    #[test]
    fn numbers_of_a_payload_are_kept_to_the_last_bit() {
        // Numbers of 17 digits, which a fast parser misses by a bit now and then.
        for n in 1..1000_u64 {
            let number = f64::from_bits(n.wrapping_mul(0x1234_5678_9abc_def1) >> 2);
            assert_eq!(payload_of(&format!("{number:e}")), Some(json!(number)));
        }
    }

    #[test]
    fn every_service_type_is_read_and_written() {
        for name in ["DYNAMIC", "STATIC", "PERMANENT", "DYNAMIC_SEQUENTIAL"] {
            let data = SSL.replace("DYNAMIC", name);
            let instance = read_text(&data).unwrap();
            assert_eq!(instance.service_type().wire_name(), name);
            assert_eq!(String::from_utf8(instance.to_json()).unwrap(), data);
        }
    }

    #[test]
    fn missing_fields_take_their_defaults() {
        let instance = read_text("{}").unwrap();
        assert_eq!(
            instance,
            ServiceInstance::new(Fields::new("service", "znode"))
        );
        assert!(instance.is_enabled());
        assert!(!instance.can_be_picked());
    }

    #[test]
    fn null_fields_take_their_defaults() {
        let data = r#"{"name":null,"id":null,"address":null,"port":null,"sslPort":null,"payload":null,"registrationTimeUTC":null,"serviceType":null,"uriSpec":null,"enabled":null}"#;
        assert_eq!(read_text(data), read_text("{}"));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let data = SSL.replace('}', r#","x":{"y":[null]},"enabled":true}"#);
        assert_eq!(read_text(&data), read_text(SSL));
    }

    #[test]
    fn an_address_that_would_lead_elsewhere_is_refused() {
        for address in [
            "me@evil.com",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "a\n",
            "a:80",
            "evil\u{3002}com",
        ] {
            let error = with("address", json!(address)).unwrap_err();
            let expected = format!("address is {address:?}, expected an IP address or a host name");
            assert_eq!(error, expected);
        }
        assert_eq!(with("address", json!("")), read_text("{}"));
        let scoped = with("address", json!("fe80::1%eth0")).unwrap();
        assert_eq!(scoped.address(), Some("fe80::1%eth0"));
    }

    #[test]
    fn a_uri_spec_that_would_lead_elsewhere_is_refused() {
        let literal = |text: &str| json!({"value": text, "variable": false});
        let scheme = json!({"value": "scheme", "variable": true});
        for parts in [
            json!([scheme, literal("://evil.com/")]),
            json!([literal("/a\r\nHost: evil.com")]),
            json!([literal("/a evil.com")]),
            json!([scheme, literal("://{address}@evil.com/")]),
        ] {
            let error = with("uriSpec", json!({"parts": parts})).unwrap_err();
            assert!(
                error.starts_with("uriSpec is \"") && error.contains("evil.com"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_written_unless_asked_for_has_exactly_the_fields_an_old_reader_knows() {
        let known = [
            "name",
            "id",
            "address",
            "port",
            "sslPort",
            "payload",
            "registrationTimeUTC",
            "serviceType",
            "uriSpec",
        ];
        for instance in [
            with_spec(),
            ServiceInstance::new(ssl()),
            ServiceInstance::new(Fields::new("a", "b")),
        ] {
            let json = String::from_utf8(instance.to_json()).unwrap();
            let fields: serde_json::Map<String, Value> = serde_json::from_str(&json).unwrap();
            assert_eq!(fields.len(), known.len(), "{json}");
            let at = known.map(|field| json.find(&format!("\"{field}\":")).unwrap());
            assert!(at.is_sorted(), "{json}");
        }
    }

    #[test]
    fn the_order_of_fields_and_space_between_them_do_not_count() {
        let data = " {\n\"port\" : 5000 ,\t\"id\": \"b\" , \"name\":\"a\" }\n";
        let fields = Fields {
            port: Some(5000),
            ..Fields::new("a", "b")
        };
        assert_eq!(read_text(data), Ok(ServiceInstance::new(fields)));
    }

    #[test]
    fn id_and_name_may_differ_from_the_path() {
        let instance = ServiceInstance::from_json("other", "i0000000001", SSL.as_bytes()).unwrap();
        assert_eq!(instance.name(), "ssl");
        assert_eq!(instance.id(), "i");
    }

    #[test]
    fn numbers_in_strings_are_accepted() {
        assert_eq!(with("port", json!("5000")).unwrap().port(), Some(5000));
        assert_eq!(
            with("sslPort", json!(" 8443 ")).unwrap().ssl_port(),
            Some(8443)
        );
        let instance = with("registrationTimeUTC", json!("1387297218261")).unwrap();
        assert_eq!(instance.registration_time_utc(), Some(1_387_297_218_261));
    }

    #[test]
    fn scalars_of_another_type_are_accepted() {
        assert_eq!(with("port", json!(8080.0)).unwrap().port(), Some(8080));
        assert_eq!(with("id", json!(7)).unwrap().id(), "7");
        assert_eq!(with("name", json!(true)).unwrap().name(), "true");
        assert!(!with("enabled", json!("false")).unwrap().is_enabled());
        assert!(with("enabled", json!("True")).unwrap().is_enabled());
        assert!(!with("enabled", json!(0)).unwrap().is_enabled());
        let before_1970 = with("registrationTimeUTC", json!(-1)).unwrap();
        assert_eq!(before_1970.registration_time_utc(), Some(-1));
    }

    #[test]
    fn a_uri_spec_is_read_as_leniently_as_the_rest() {
        let spec = |value| with("uriSpec", value).map(|i| i.uri_spec().unwrap().to_string());
        assert_eq!(spec(json!({})), Ok(String::new()));
        let parts = json!([{"value": "/a/", "z": 1}, {"variable": true, "value": "b"}]);
        assert_eq!(spec(json!({"parts": parts})), Ok("/a/{b}".to_owned()));
        let error = spec(json!(1)).unwrap_err();
        assert_eq!(error, "uriSpec is 1, expected an object with parts");
    }

    #[test]
    fn the_first_and_the_last_port_are_ports() {
        for port in [1, 65535] {
            assert_eq!(with("port", json!(port)).unwrap().port(), Some(port));
        }
    }

    #[test]
    fn a_port_that_is_no_port_is_refused() {
        for field in ["port", "sslPort"] {
            for value in [
                json!(0),
                json!(-1),
                json!(65536),
                json!(1e300),
                json!(80.5),
                json!("http"),
                json!(""),
                json!("0"),
                json!("80x"),
                json!(true),
                json!([80]),
                json!({"port": 80}),
            ] {
                let error = with(field, value.clone()).unwrap_err();
                assert!(error.starts_with(field), "{error}");
                assert!(
                    error.ends_with("expected a number from 1 to 65535"),
                    "{error}"
                );
            }
        }
        let error = with("port", json!(70_000)).unwrap_err();
        assert_eq!(error, "port is 70000, expected a number from 1 to 65535");
    }

    #[test]
    fn an_unknown_service_type_is_refused() {
        for value in [
            json!("OTHER"),
            json!("dynamic"),
            json!(""),
            json!(0),
            json!([]),
        ] {
            let error = with("serviceType", value).unwrap_err();
            assert!(error.starts_with("serviceType is "), "{error}");
            assert!(error.contains("DYNAMIC_SEQUENTIAL"), "{error}");
        }
    }

    #[test]
    fn a_field_of_the_wrong_shape_is_refused() {
        for field in [
            "name",
            "id",
            "address",
            "registrationTimeUTC",
            "enabled",
            "uriSpec",
        ] {
            let error = with(field, json!([1])).unwrap_err();
            assert!(
                error.starts_with(&format!("{field} is an array, expected ")),
                "{error}"
            );
        }
        assert!(with("enabled", json!("maybe")).is_err());
        assert!(with("registrationTimeUTC", json!(u64::MAX)).is_err());
    }

    #[test]
    fn empty_data_is_refused() {
        assert_eq!(read_text("").unwrap_err(), "the data is empty");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let cut = WITH_SPEC.get(..100).unwrap();
        let twice = format!("{SSL}{SSL}");
        for data in [" ", "garbage", cut, &twice, "\0", r#"{"a":}"#] {
            let error = read_text(data).unwrap_err();
            assert!(error.starts_with("the data is not JSON: "), "{error}");
        }
        let bytes = ServiceInstance::from_json("s", "z", b"{\"name\":\"\xff\"}")
            .unwrap_err()
            .to_string();
        assert!(bytes.starts_with("the data is not JSON: "), "{bytes}");
        let deep = "[".repeat(1_000_000);
        assert!(read_text(&deep).is_err());
    }

    #[test]
    fn json_that_is_no_object_is_refused() {
        for (data, kind) in [
            ("null", "null"),
            ("true", "a boolean"),
            ("1", "a number"),
            (r#""x""#, "a text"),
            ("[{}]", "an array"),
        ] {
            let expected = format!("the data is {kind}, expected an object");
            assert_eq!(read_text(data).unwrap_err(), expected);
        }
    }

    #[test]
    fn an_error_is_short_and_has_nothing_of_the_payload() {
        let long = "x".repeat(100_000);
        let error = with("port", json!(long)).unwrap_err();
        assert!(error.len() < 300, "{error}");
        for broken in [r#","port":0}"#, r#","uriSpec":7}"#, "", ",}"] {
            let data = format!(r#"{{"payload":{{"password":"secret"}}{broken}"#);
            let error = read_text(&data).unwrap_err();
            assert!(
                !error.contains("secret") && !error.contains("password"),
                "{error}"
            );
        }
    }
}
