//! The floor: the least work that any lookup of a URL does.

use std::fmt::{Display, Write};
use std::hint::black_box;

/// The beginnings of the URLs of a service, such as `http://10.0.0.1:8080`.
pub(crate) struct Floor(Vec<String>);

impl Floor {
    pub(crate) fn of(instances: usize) -> Floor {
        let base = |n| format!("http://10.0.{}.{}:8080", n / 256, n % 256);
        Floor((0..instances).map(base).collect())
    }

    /// Picks an instance at random, and writes its URL with two values into a text that is allocated once.
    pub(crate) fn url(&self) -> String {
        let values: [&dyn Display; 2] = [&"GB", &42];
        // The compiler may know neither the types of the values nor the texts beside them, as in a real lookup.
        let ([territory, userid], [first, second]) =
            (black_box(values), black_box(["/1.x/", "/users/"]));
        let mut url = String::with_capacity(64);
        url.push_str(&self.0[rand::random_range(0..self.0.len())]);
        url.push_str(first);
        _ = write!(url, "{territory}");
        url.push_str(second);
        _ = write!(url, "{userid}");
        url
    }
}
