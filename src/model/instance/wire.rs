//! The bytes of an instance in ZooKeeper, as Apache Curator writes and reads them.

use super::payload::Payload;
use super::{Fields, ServiceInstance, ServiceType};
use crate::excerpt::excerpt;
use crate::model::json::{self, Object};
use crate::model::uri_spec::UriSpec;
use crate::model::url;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use serde_json::value::RawValue;

impl ServiceInstance {
    /// Returns the bytes that Curator would write.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// Reads the data of the node `znode` of the service `name`, as leniently as Curator.
    ///
    /// A field that no call needs is left at its default if it cannot be read. The error names the field and its value,
    /// and has nothing of the payload.
    pub(crate) fn from_json(
        name: &str,
        znode: &str,
        data: &[u8],
    ) -> Result<ServiceInstance, String> {
        let text = json::decode(data);
        let json = parse(&text)?;
        let field = |field| json.get(field);
        let (port, ssl_port) = ports(&json)?;
        let mut fields = Fields {
            address: field("address").map(address).transpose()?.flatten(),
            port,
            ssl_port,
            payload: field("payload").and_then(Payload::from_wire),
            registration_time_utc: field("registrationTimeUTC").and_then(json::integer),
            service_type: field("serviceType")
                .and_then(service_type)
                .unwrap_or(ServiceType::Dynamic),
            enabled: json.get_or_null("enabled").map_or(Ok(true), enabled)?,
            ..Fields::new(
                field("name")
                    .and_then(not_empty)
                    .unwrap_or_else(|| name.to_owned()),
                field("id")
                    .and_then(not_empty)
                    .unwrap_or_else(|| znode.to_owned()),
            )
        };
        if let Some(raw) = field("uriSpec") {
            fields.uri_spec = Some(uri_spec(raw, &fields)?);
        }
        Ok(ServiceInstance::new(fields))
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

fn parse(text: &str) -> Result<Object<'_, 10>, String> {
    if text.is_empty() {
        return Err("the data is empty".to_owned());
    }
    let not_json = |error| format!("the data is not JSON: {error}");
    let json = match text.trim_start().as_bytes().first() {
        Some(b'{') => Object::parse(text, FIELDS).map_err(not_json)?,
        // Its text is not shown, because it may hold a payload.
        Some(b'[') => return Err(unusable("the data", "an array", "an object")),
        _ => {
            let found = format!("{:?}", excerpt(text));
            return Err(unusable("the data", &found, "a JSON object"));
        }
    };
    match json.unknown {
        // Curator writes the address even if there is none, and knows no other field.
        Some(other) if json.get_or_null("address").is_none() => {
            let found = format!("missing beside {}", json::shown(other));
            Err(unusable(
                "address",
                &found,
                "an instance as Curator writes it",
            ))
        }
        _ => Ok(json),
    }
}

fn unusable(field: &str, found: &str, expected: &str) -> String {
    format!("{field} is {found}, expected {expected}")
}

fn not_empty(raw: &RawValue) -> Option<String> {
    json::text(raw).filter(|text| !text.is_empty())
}

/// Reads both ports. If there is a port for encrypted connections, no call needs the other.
fn ports(json: &Object<'_, 10>) -> Result<(Option<u16>, Option<u16>), String> {
    let ssl_port = json
        .get("sslPort")
        .map_or(Ok(None), |raw| port("sslPort", raw))?;
    let port = json.get("port").map_or(Ok(None), |raw| port("port", raw));
    match ssl_port {
        Some(_) => Ok((port.unwrap_or(None), ssl_port)),
        None => Ok((port?, None)),
    }
}

/// Reads a port. Many programs write 0 or -1 if there is none.
fn port(field: &str, raw: &RawValue) -> Result<Option<u16>, String> {
    match json::integer(raw) {
        _ if json::is_none(raw) => Ok(None),
        Some(..=0) => Ok(None),
        Some(port @ 1..=65_535) => Ok(u16::try_from(port).ok()),
        _ => Err(unusable(
            field,
            &json::shown(raw),
            "a number from 1 to 65535",
        )),
    }
}

/// Reads an address. An empty one is none.
fn address(raw: &RawValue) -> Result<Option<Box<str>>, String> {
    let unusable = |expected| unusable("address", &json::shown(raw), expected);
    let text = json::text(raw).ok_or_else(|| unusable("an IP address or a host name"))?;
    let text = text.trim_matches(|c: char| c <= ' ');
    if text.is_empty() {
        return Ok(None);
    }
    url::address(text).map_err(unusable)?;
    Ok(Some(text.into()))
}

/// Reads a service type: its name, or its number as Java counts.
fn service_type(raw: &RawValue) -> Option<ServiceType> {
    let text = json::text(raw)?;
    let number = || text.trim().parse::<usize>().ok();
    ServiceType::from_wire(text.trim()).or_else(|| ServiceType::ALL.get(number()?).copied())
}

fn enabled(raw: &RawValue) -> Result<bool, String> {
    json::boolean(raw).ok_or_else(|| unusable("enabled", &json::shown(raw), "true or false"))
}

fn uri_spec(raw: &RawValue, fields: &Fields) -> Result<UriSpec, String> {
    let spec = UriSpec::from_wire(raw)
        .map_err(|expected| unusable("uriSpec", &json::shown(raw), &expected))?;
    let address = fields.address.as_deref().unwrap_or_default();
    let found = || format!("{:?}", excerpt(&spec.to_string()));
    match spec.check(&fields.name, &fields.id, Some(address)) {
        Ok(()) => Ok(spec),
        Err(expected) => Err(unusable("uriSpec", &found(), expected)),
    }
}

/// Writes the instance in the form of its node in ZooKeeper.
impl Serialize for ServiceInstance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.fields();
        let count = FIELDS.len() - usize::from(fields.enabled);
        let mut json = serializer.serialize_struct("ServiceInstance", count)?;
        // Curator's names, in Curator's order.
        json.serialize_field("name", &*fields.name)?;
        json.serialize_field("id", &fields.id)?;
        json.serialize_field("address", &fields.address)?;
        json.serialize_field("port", &fields.port)?;
        json.serialize_field("sslPort", &fields.ssl_port)?;
        json.serialize_field("payload", &fields.payload)?;
        json.serialize_field("registrationTimeUTC", &fields.registration_time_utc)?;
        json.serialize_field("serviceType", fields.service_type.wire_name())?;
        json.serialize_field("uriSpec", &fields.uri_spec)?;
        // Curator 2.7 refuses a field that it does not know, so this one is written only if the instance is off.
        if !fields.enabled {
            json.serialize_field("enabled", &false)?;
        }
        json.end()
    }
}

/// Reads the form of a node in ZooKeeper, as leniently as Curator does. The name and the id are required.
impl<'de> Deserialize<'de> for ServiceInstance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ServiceInstance, D::Error> {
        let instance = ServiceInstance::from_value(&Value::deserialize(deserializer)?)?;
        match (instance.name(), instance.id()) {
            ("", _) => Err(de::Error::missing_field("name")),
            (_, "") => Err(de::Error::missing_field("id")),
            _ => Ok(instance),
        }
    }
}

impl ServiceInstance {
    /// Reads an instance that may have no name and no id, which are empty then.
    pub(in crate::model) fn from_value<E: de::Error>(value: &Value) -> Result<ServiceInstance, E> {
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
    fn null_fields_take_their_defaults_and_a_null_switch_is_off() {
        let data = r#"{"name":null,"id":null,"address":null,"port":null,"sslPort":null,"payload":null,"registrationTimeUTC":null,"serviceType":null,"uriSpec":null}"#;
        assert_eq!(read_text(data), read_text("{}"));
        // Curator reads null as `false` here.
        assert!(!with("enabled", json!(null)).unwrap().is_enabled());
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let data = SSL.replace('}', r#","x":{"y":[null]},"enabled":true}"#);
        assert_eq!(read_text(&data), read_text(SSL));
    }

    #[test]
    fn an_address_that_would_lead_elsewhere_is_refused() {
        for (address, expected) in [
            ("me@evil.com", "an IP address or a host name"),
            ("a/b", "an IP address or a host name"),
            ("a?b", "an IP address or a host name"),
            ("a#b", "an IP address or a host name"),
            ("a b", "an IP address or a host name"),
            ("a\nb", "an IP address or a host name"),
            ("evil\u{3002}com", "an IP address or a host name"),
            ("a:80", "an IP address or a host name without a port"),
            ("http://a", "an IP address or a host name, not a URL"),
        ] {
            let error = with("address", json!(address)).unwrap_err();
            assert_eq!(
                error,
                format!("address is {address:?}, expected {expected}")
            );
        }
        let error = with("address", json!({"host": "a"})).unwrap_err();
        assert_eq!(
            error,
            "address is {\"host\":\"a\"}, expected an IP address or a host name"
        );
        assert_eq!(with("address", json!(" ")), read_text("{}"));
        let padded = with("address", json!(" 10.0.0.1\n")).unwrap();
        assert_eq!(padded.address(), Some("10.0.0.1"));
        let scoped = with("address", json!("fe80::1%eth0")).unwrap();
        assert_eq!(scoped.address(), Some("fe80::1%eth0"));
    }

    #[test]
    fn an_address_that_other_machines_cannot_reach_is_refused() {
        for address in [
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "fe80::1",
        ] {
            let error = with("address", json!(address)).unwrap_err();
            assert!(
                error.starts_with(&format!("address is {address:?}, expected ")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_node_of_another_kind_is_refused() {
        for (data, field) in [
            (
                r#"{"serviceEndpoint":{"host":"a","port":1},"status":"ALIVE"}"#,
                "serviceEndpoint",
            ),
            (r#"{"port":1,"name":"i","host":"a"}"#, "host"),
            (
                r#"{"instance":{"hostName":"a","port":{"$":1}}}"#,
                "instance",
            ),
        ] {
            let expected = format!(
                "address is missing beside {field:?}, expected an instance as Curator writes it"
            );
            assert_eq!(read_text(data).unwrap_err(), expected);
        }
        assert!(read_text(r#"{"address":null,"host":"a"}"#).is_ok());
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
    fn a_port_that_says_there_is_none_is_none() {
        let none = [
            json!(-1),
            json!(0),
            json!(""),
            json!(" "),
            json!("null"),
            json!("-1"),
            json!(-7),
        ];
        for value in none {
            let ports = json!({"port": 80, "sslPort": value}).to_string();
            let instance = read_text(&ports).unwrap();
            assert_eq!(
                (instance.port(), instance.ssl_port()),
                (Some(80), None),
                "{ports}"
            );
            let ports = json!({"port": value, "sslPort": 443}).to_string();
            let instance = read_text(&ports).unwrap();
            assert_eq!(
                (instance.port(), instance.ssl_port()),
                (None, Some(443)),
                "{ports}"
            );
            let neither = json!({"address": "h", "port": value, "sslPort": value}).to_string();
            assert!(!read_text(&neither).unwrap().can_be_picked());
        }
    }

    #[test]
    fn a_port_that_is_no_port_is_refused_if_a_call_needs_it() {
        let none = [
            json!(65536),
            json!(1e300),
            json!("http"),
            json!("80x"),
            json!("80.0"),
            json!(true),
            json!([80]),
            json!({"port": 80}),
        ];
        for value in none {
            for field in ["port", "sslPort"] {
                let mut ports = json!({"port": 80});
                ports[field] = value.clone();
                let error = read_text(&ports.to_string()).unwrap_err();
                assert!(error.starts_with(&format!("{field} is ")), "{error}");
                assert!(
                    error.ends_with(", expected a number from 1 to 65535"),
                    "{error}"
                );
            }
            let not_needed = json!({"port": value, "sslPort": 443}).to_string();
            let instance = read_text(&not_needed).unwrap();
            assert_eq!((instance.port(), instance.ssl_port()), (None, Some(443)));
        }
        let error = with("port", json!(70_000)).unwrap_err();
        assert_eq!(error, "port is 70000, expected a number from 1 to 65535");
        assert_eq!(with("port", json!(80.9)).unwrap().port(), Some(80));
    }

    #[test]
    fn a_service_type_is_a_name_or_a_number_and_else_the_default() {
        use ServiceType::{Dynamic, DynamicSequential, Permanent, Static};
        for (value, expected) in [
            (json!("STATIC"), Static),
            (json!(" static "), Static),
            (json!("2"), Permanent),
            (json!(3), DynamicSequential),
            (json!(0), Dynamic),
            (json!(4), Dynamic),
            (json!("OTHER"), Dynamic),
            (json!(""), Dynamic),
            (json!([]), Dynamic),
        ] {
            let read = with("serviceType", value.clone()).unwrap();
            assert_eq!(read.service_type(), expected, "{value}");
        }
    }

    #[test]
    fn a_field_that_no_call_needs_does_not_refuse_an_instance() {
        for value in [
            json!([1]),
            json!({"a": 1}),
            json!("\u{0}"),
            json!("soon"),
            json!(u64::MAX),
        ] {
            for field in [
                "name",
                "id",
                "registrationTimeUTC",
                "serviceType",
                "payload",
                "x",
            ] {
                let read = with("address", json!("h")).unwrap();
                let data = json!({"address": "h", field: value}).to_string();
                let found = read_text(&data).unwrap();
                assert_eq!(
                    found.registration_time_utc(),
                    read.registration_time_utc(),
                    "{data}"
                );
                assert_eq!(found.address(), Some("h"));
            }
        }
        for field in ["name", "id"] {
            assert_eq!(with(field, json!([1])), read_text("{}"));
            assert_eq!(with(field, json!("")), read_text("{}"));
        }
        let at = |time| {
            with("registrationTimeUTC", time)
                .unwrap()
                .registration_time_utc()
        };
        assert_eq!(at(json!(1_475_540_123.456_789)), Some(1_475_540_123));
        assert_eq!(at(json!("2017-07-14T02:40:00Z")), None);
        assert_eq!(at(json!(1e300)), None);
    }

    #[test]
    fn a_field_that_a_call_needs_is_refused_in_another_shape() {
        for field in ["address", "enabled", "uriSpec"] {
            let error = with(field, json!([1])).unwrap_err();
            let begin = format!("{field} is [1], expected ");
            assert!(error.starts_with(&begin), "{error}");
        }
        for value in [json!("maybe"), json!(0.5), json!("0")] {
            let error = with("enabled", value.clone()).unwrap_err();
            assert_eq!(error, format!("enabled is {value}, expected true or false"));
        }
        for off in [json!(0), json!(""), json!("null"), json!(" False ")] {
            assert!(!with("enabled", off).unwrap().is_enabled());
        }
    }

    #[test]
    fn empty_data_is_refused() {
        assert_eq!(read_text("").unwrap_err(), "the data is empty");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let cut = WITH_SPEC.get(..100).unwrap();
        for data in [cut, r#"{"a":}"#, "{\u{a0}}"] {
            let error = read_text(data).unwrap_err();
            assert!(error.starts_with("the data is not JSON: "), "{error}");
        }
        for data in [" ", "garbage", "10.0.0.1:8080", "\0"] {
            let error = read_text(data).unwrap_err();
            assert!(error.starts_with("the data is \""), "{error}");
            assert!(error.ends_with("\", expected a JSON object"), "{error}");
        }
        for deep in ["[", r#"{"a":"#] {
            assert!(read_text(&deep.repeat(200_000)).is_err());
        }
    }

    #[test]
    fn bytes_are_decoded_as_jackson_does_and_what_follows_the_value_does_not_count() {
        let utf16 = |to: fn(u16) -> [u8; 2]| SSL.encode_utf16().flat_map(to).collect::<Vec<u8>>();
        let utf32 =
            |to: fn(u32) -> [u8; 4]| SSL.chars().flat_map(|c| to(c.into())).collect::<Vec<u8>>();
        let plain = SSL.as_bytes();
        let (be, le) = (utf16(u16::to_be_bytes), utf16(u16::to_le_bytes));
        let (be32, le32) = (utf32(u32::to_be_bytes), utf32(u32::to_le_bytes));
        let cases: [&[&[u8]]; 15] = [
            &[b"\xef\xbb\xbf", plain],
            &[b"\xfe\xff", &be],
            &[b"\xff\xfe", &le],
            &[b"\0\0\xfe\xff", &be32],
            &[b"\xff\xfe\0\0", &le32],
            &[&be],
            &[&le],
            &[&be32],
            &[&le32],
            &[&be, b"\xd8\0"],
            &[&be, b"\0"],
            &[plain, plain],
            &[plain, b"\xff\0garbage"],
            &[plain, b"}"],
            &[b"\r\n\t ", plain, b"\n"],
        ];
        for bytes in cases {
            let read = ServiceInstance::from_json("s", "z", &bytes.concat());
            assert_eq!(read, Ok(ServiceInstance::new(ssl())), "{bytes:?}");
        }
        let latin1 = b"{\"name\":\"gr\xfc\",\"address\":\"h\"}";
        let read = ServiceInstance::from_json("s", "z", latin1).unwrap();
        assert_eq!((read.name(), read.address()), ("gr\u{fffd}", Some("h")));
        let surrogates = r#"{"\ud800":1,"x":"\udc00","name":"\ud800","address":"h"}"#;
        assert_eq!(read_text(surrogates), with("address", json!("h")));
    }

    #[test]
    fn json_that_is_no_object_is_refused() {
        for (data, kind) in [
            ("null", r#""null", expected a JSON object"#),
            (
                "10.0.0.1:8080",
                r#""10.0.0.1:8080", expected a JSON object"#,
            ),
            (r#""x""#, r#""\"x\"", expected a JSON object"#),
            ("[{}]", "an array, expected an object"),
        ] {
            let expected = format!("the data is {kind}");
            assert_eq!(read_text(data).unwrap_err(), expected);
        }
    }

    #[test]
    fn an_error_is_short_and_has_nothing_of_the_payload() {
        let long = "x".repeat(100_000);
        let error = with("port", json!(long)).unwrap_err();
        assert!(error.len() < 300, "{error}");
        for broken in [r#","port":"x"}"#, r#","uriSpec":7}"#, "", ",}"] {
            let data = format!(r#"{{"payload":{{"password":"secret"}}{broken}"#);
            let error = read_text(&data).unwrap_err();
            assert!(
                !error.contains("secret") && !error.contains("password"),
                "{error}"
            );
        }
    }
}
