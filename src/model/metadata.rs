//! Metadata of an instance: texts by key, which travel in the payload as Spring Cloud ZooKeeper has them.

use super::instance::ServiceInstance;
use super::traits::{find, text};

/// Metadata of an instance.
///
/// A key is read from `payload.metadata`, as Spring Cloud ZooKeeper writes it, and otherwise from the payload itself.
impl ServiceInstance {
    /// Returns the text under a key, or `None` if there is none or it is not a text.
    ///
    /// The payload is parsed on every call, so keep a text that you need often.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080).metadata("team", "blue")).build()?;
    /// assert_eq!(instance.metadata("team").as_deref(), Some("blue"));
    /// assert_eq!(instance.metadata("cost"), None);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn metadata(&self, key: &str) -> Option<String> {
        text(find(self.payload_text()?, [key])[0]?)
    }

    /// Returns how often the instance is picked, compared with an instance of weight 1.
    ///
    /// It is the metadata `weight`, or 1 if that is not a positive whole number.
    pub fn weight(&self) -> u32 {
        self.traits().map_or(1, |traits| traits.weight)
    }

    /// Returns the zone of the instance: the metadata `zone`. Zones are compared without case.
    pub fn zone(&self) -> Option<&str> {
        self.traits()?.zone.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SPRING_CLASS: &str = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance";

    fn instance(payload: Value) -> ServiceInstance {
        let data = json!({ "address": "h", "port": 1, "payload": payload }).to_string();
        ServiceInstance::from_json("foo", "i", data.as_bytes()).unwrap()
    }

    #[test]
    fn metadata_are_read_where_spring_writes_them_and_in_the_payload_itself() {
        let spring = json!({ "@class": SPRING_CLASS, "id": "a", "name": "b",
            "metadata": { "zone": "EU", "weight": "3", "x": null }, "x": "y", "zone": "us" });
        let read = instance(spring);
        assert_eq!((read.zone(), read.weight()), (Some("EU"), 3));
        assert_eq!(read.metadata("x").as_deref(), Some("y"));
        assert_eq!(read.metadata("metadata"), None);
        let read = instance(json!({ "zone": "us", "weight": 7 }));
        assert_eq!((read.zone(), read.weight()), (Some("us"), 7));
        for payload in [
            json!(null),
            json!([1]),
            json!("zone"),
            json!({ "zone": "" }),
        ] {
            let read = instance(payload);
            assert_eq!((read.zone(), read.weight()), (None, 1));
        }
    }

    #[test]
    fn a_weight_is_a_positive_whole_number() {
        for (weight, expected) in [
            (json!(2), 2),
            (json!(" 2 "), 2),
            (json!(0), 1),
            (json!("0"), 1),
            (json!(-2), 1),
            (json!(1.5), 1),
            (json!("many"), 1),
            (json!(u64::MAX), u32::MAX),
        ] {
            assert_eq!(instance(json!({ "weight": weight })).weight(), expected);
        }
    }

    #[test]
    fn an_instance_that_spring_has_switched_off_cannot_be_picked() {
        for (status, up) in [
            ("OUT_OF_SERVICE", false),
            ("out_of_service", false),
            ("DOWN", false),
            ("UP", true),
            ("", true),
            ("  ", true),
        ] {
            let within = json!({ "metadata": { "instance_status": status } });
            assert_eq!(instance(within).can_be_picked(), up, "{status}");
            assert_eq!(
                instance(json!({ "instance_status": status })).can_be_picked(),
                up
            );
        }
        let off = json!({ "metadata": { "instance_status": "OUT_OF_SERVICE" } });
        assert!(
            instance(off).is_enabled(),
            "the field of Curator is another"
        );
    }
}
