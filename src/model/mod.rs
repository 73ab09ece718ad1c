//! Services, their instances and their URLs, as plain values.
//!
//! Everything in this folder is pure: no I/O, no threads, no clock, no environment and no randomness. A program
//! registers a [`Service`]. ZooKeeper holds a [`ServiceInstance`], in the format of Apache Curator's x-discovery, and
//! discovery returns it. A [`UriSpec`] is the template of the path below an instance.

#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod instance;
mod json;
pub(crate) mod path;
mod service;
mod uri_spec;
pub(crate) mod url;

pub use instance::builder::ServiceInstanceBuilder;
pub(crate) use instance::{Common, Fields, switch};
pub use instance::{ServiceInstance, ServiceType};
pub use service::Service;
pub use uri_spec::UriSpec;
pub(crate) use uri_spec::UrlPort;

/// Values for the variables of a uri spec.
pub(crate) type Params<'a> = &'a [(&'a str, &'a dyn std::fmt::Display)];

/// Writes the parameters of a uri spec, as [`discovery::url`](crate::discovery::url) takes them.
///
/// Each parameter has a name and a value of any type that implements [`Display`](std::fmt::Display). Use it to keep
/// parameters in a variable. Without it you would write `&[("userid", &42 as &dyn Display)]`, or give the variable the
/// type `&[(&str, &dyn Display)]`.
///
/// # Examples
/// ```
/// use party::{discovery, params};
///
/// discovery::set_override("users", "http://localhost:9999/{territory}/users/{userid}")?;
/// let url = discovery::url("users", params! { "territory" => "GB", "userid" => 42 })?;
/// assert_eq!(url, "http://localhost:9999/GB/users/42");
/// # discovery::clear_override("users");
/// # Ok::<(), party::Error>(())
/// ```
#[macro_export]
macro_rules! params {
    ($($name:expr => $value:expr),* $(,)?) => {
        &[$(($name, &$value as &dyn ::std::fmt::Display)),*]
            as &[(&str, &dyn ::std::fmt::Display)]
    };
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    #[test]
    fn parameters_may_be_of_any_type_and_be_kept() {
        let name = String::from("userid");
        let params = params! { "territory" => "GB", name.as_str() => 40 + 2, "x" => 'y' };
        let text = |(name, value): &(&str, &dyn Display)| format!("{name}={value}");
        let texts: Vec<String> = params.iter().map(text).collect();
        assert_eq!(texts, ["territory=GB", "userid=42", "x=y"]);
        assert!((params! {}).is_empty());
    }
}
