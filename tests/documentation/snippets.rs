//! The Rust code of the Markdown pages, with what it needs around it. See `code.rs`, which finds it here.

use party::{Config, Service, discovery, registration};
use std::sync::{Mutex, MutexGuard};

/// Held by each test of this file: they share the connections of the process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn disconnect() -> party::Result<()> {
    registration::disconnect()?;
    discovery::disconnect()
}

mod readme {
    use super::{Service, alone, disconnect, discovery};

    #[test]
    fn a_service_is_registered_found_and_overridden() -> party::Result<()> {
        let _alone = alone();
        register().unwrap();
        discover()?;
        call();
        overridden()?;
        disconnect()
    }

    /// The connections stay for the next, which the guard of this one would end.
    fn register() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        use party::{Service, registration};

        registration::connect_to("memory:readme", "dev")?;
        let _party = party::disconnect_on_drop().on_signals();
        let service = Service::new("users", 8080).uri_spec("/1.x/users/{userid}");
        let id = registration::register(service.address("10.0.0.1"))?;
        println!("registered as {id}");

        std::mem::forget(_party);
        assert!(!id.is_empty());
        Ok(())
    }

    fn discover() -> party::Result<()> {
        use party::discovery;

        discovery::connect_to("memory:readme", "dev")?;
        let url = discovery::url("users", &[("userid", &42)])?;
        println!("{url}"); // http://10.0.0.1:8080/1.x/users/42

        assert_eq!(url, "http://10.0.0.1:8080/1.x/users/42");
        Ok(())
    }

    /// Nobody is there, so it is no test of what is called.
    fn call() {
        fn call() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            use party::{Attempt, discovery};

            let second = Some(std::time::Duration::from_secs(1));
            let config = ureq::Agent::config_builder().timeout_global(second);
            let agent = ureq::Agent::new_with_config(config.build());
            let user = discovery::call("users", &[("userid", &42)], |url| {
                let answer = agent.get(url).call();
                let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
                text.map_err(|error| match error {
                    ureq::Error::StatusCode(..=499) => Attempt::Final(error),
                    error => Attempt::Elsewhere(error),
                })
            })?;

            drop(user);
            Ok(())
        }
        discovery::set_override("users", "http://127.0.0.1:1").unwrap();
        assert!(call().is_err());
        discovery::clear_override("users");
    }

    fn overridden() -> party::Result<()> {
        discovery::set_override("users", "http://localhost:9999/fake/{userid}")?;
        let url = discovery::url("users", &[("userid", &42)])?;
        assert_eq!(url, "http://localhost:9999/fake/42");
        discovery::clear_override("users");
        Ok(())
    }

    #[test]
    fn a_service_is_registered_when_it_is_ready_and_leaves_with_the_guard() -> party::Result<()> {
        use party::registration;

        let _alone = alone();
        let is_ready = || true;
        registration::connect_to("memory:readme-ready", "dev")?;
        registration::register_when_healthy(Service::new("sessions", 8081), is_ready)?;
        assert!(registration::unregister(&Service::new("sessions", 8081))?);

        let in_discovery = party::disconnect_on_drop().at_exit();
        // … serve …
        drop(in_discovery); // unregisters, then waits for the drain time
        // … only now stop the server …
        assert_eq!(registration::state(), party::ConnectionState::Unconnected);
        Ok(())
    }
}

mod readme_configuration {
    #[expect(dead_code, reason = "there is no server, and no environment")]
    fn drained() -> party::Result<()> {
        use party::{Config, registration};
        use std::time::Duration;

        let config = Config::new().drain(Duration::from_millis(200));
        registration::connect_with(config)?;
        Ok(())
    }
}

mod reliability {
    #[expect(dead_code, reason = "there is no server, and no environment")]
    fn in_the_background() -> party::Result<()> {
        use party::{Config, discovery};

        discovery::connect_with(Config::new().connect_in_background())?;
        Ok(())
    }
}

mod living {
    use super::{Config, Service, alone, disconnect, registration};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[expect(dead_code, reason = "there is no server, and no environment")]
    fn checked() -> party::Result<()> {
        use party::{Service, check, registration};

        let health = check::http("http://localhost:8080/health")?;
        let users = registration::register_while_healthy(Service::new("users", 8080), health)?;

        drop(users);
        Ok(())
    }

    #[expect(dead_code, reason = "there is no server, and no environment")]
    fn gated() -> party::Result<String> {
        use party::{Service, check, registration};

        let users = Service::new("users", 8080);
        let id = registration::register_when_healthy(users, check::tcp(8080))?;

        Ok(id)
    }

    #[test]
    fn a_registration_is_changed_switched_and_drained() -> party::Result<()> {
        let _alone = alone();
        let requests = Arc::new(AtomicUsize::new(0));
        let config = Config::new()
            .connection_string("memory:living")
            .environment("dev");
        registration::connect_with(config.connect_in_background())?;
        let service = Service::new("reports", 8081).id("a");
        registration::register(service.clone())?;
        registration::update(&service.clone().payload("busy".into()))?;

        registration::set_enabled(&service, false)?; // listed, not picked
        registration::set_enabled(&service, true)?;

        let under_way = requests.clone();
        let _party =
            party::disconnect_on_drop().in_flight(move || under_way.load(Ordering::Relaxed));

        disconnect()
    }

    #[test]
    fn a_program_boots_before_zookeeper() -> party::Result<()> {
        let _alone = alone();
        let config = Config::new()
            .connection_string("memory:living-boot")
            .environment("dev");

        registration::connect_with(config.connect_in_background())?;
        let pending = registration::register_in_background(Service::new("jobs", 8082), || true)?;

        pending.wait(std::time::Duration::from_secs(20))?;
        disconnect()
    }
}

mod configuration {
    #[expect(dead_code, reason = "there is no server of that name")]
    fn all_in_the_program() -> party::Result<()> {
        use party::{Config, registration};
        use std::time::Duration;

        let config = Config::new()
            .connection_string("zk1:2181,zk2:2181,zk3:2181/apps")
            .environment("live")
            .session_timeout(Duration::from_secs(10))
            .drain(Duration::from_secs(2));
        registration::connect_with(config)?;
        Ok(())
    }
}

mod security {
    #[expect(dead_code, reason = "there is no server, and no environment")]
    fn credentials() -> party::Result<()> {
        use party::{Config, registration};

        let config = Config::new().auth("digest", "orders:a-long-password");
        registration::connect_with(config)?;
        Ok(())
    }
}

mod migrating {
    mod web {
        pub(super) fn is_healthy() -> bool {
            true
        }
    }

    #[expect(dead_code, reason = "there is no server, and no environment")]
    fn a_start(port: u16) -> party::Result<()> {
        use party::{Service, registration};

        registration::connect()?; // (party/connect!)
        let _party = party::disconnect_on_drop().on_signals(); // instead of :on-stop
        let service = Service::new("users", port).uri_spec("/1.x/users/{userid}");
        registration::register_when_healthy(service, web::is_healthy)?; // (party/register! m f)
        Ok(())
    }
}

mod faq {
    use super::{Config, alone, disconnect, discovery};

    #[test]
    fn a_program_is_in_two_environments() -> party::Result<()> {
        use party::{Config, Discovery, Registration, Service};

        let live = Config::new().environment("live");
        let staging = Config::new().environment("staging");
        let in_live = Registration::connect(live.connection_string("memory:live"))?;
        let from_staging = Discovery::connect(staging.connection_string("memory:staging"))?;
        in_live.register(Service::new("orders", 8080))?;
        println!("{:?}", from_staging.services()?);

        assert_eq!(from_staging.services()?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_test_has_handles_of_its_own() -> party::Result<()> {
        use party::{Config, Discovery, Registration, Service};
        use std::time::Duration;

        let config = Config::new()
            .connection_string("memory:orders-test")
            .environment("test")
            .address("10.0.0.1");
        let registration = Registration::connect(config.clone())?;
        let discovery = Discovery::connect(config)?;
        let users = discovery.service_provider("users")?;
        registration.register(Service::new("users", 8080))?;
        users.wait_for(1, Duration::from_secs(5))?;
        assert_eq!(discovery.base_url("users", "")?, "http://10.0.0.1:8080");
        Ok(())
    }

    #[test]
    fn a_payload_is_changed_in_place() -> party::Result<()> {
        let _alone = alone();
        let config = Config::new()
            .connection_string("memory:faq")
            .environment("dev");
        party::registration::connect_with(config.clone())?;
        discovery::connect_with(config)?;
        change_payload()?;
        let provider = discovery::service_provider("users")?;
        let instances = provider.instances()?;
        assert_eq!(instances.len(), 1);
        assert_eq!(instances[0].payload().unwrap()["load"], "high");
        disconnect()
    }

    fn change_payload() -> party::Result<()> {
        use party::{Service, registration};
        use serde_json::json;

        let service = Service::new("users", 8080).id("users-1");
        registration::register(service.clone().payload(json!({ "load": "low" })))?;
        registration::update(&service.payload(json!({ "load": "high" })))?;
        Ok(())
    }
}

mod calls {
    use party::{Attempt, Outcome, discovery};
    use std::io;

    fn http_get(url: &str) -> io::Result<String> {
        Err(io::Error::other(url))
    }

    #[test]
    fn a_call_is_made_or_reported() {
        let _alone = super::alone();
        discovery::set_override("users", "http://localhost:1/{userid}").unwrap();
        assert_eq!(
            format!("{:#}", call().unwrap_err()),
            "the call failed: http://localhost:1/42"
        );
        report().unwrap();
        discovery::clear_override("users");
    }

    fn call() -> Result<String, party::CallError<io::Error>> {
        let user = discovery::call("users", &[("userid", &42)], |url| {
            http_get(url).map_err(Attempt::Elsewhere)
        })?;
        Ok(user)
    }

    fn report() -> party::Result<()> {
        let url = discovery::url("users", &[("userid", &42)])?;
        if let Err(error) = http_get(&url) {
            discovery::report("users", &url, Outcome::from(&error));
        }
        Ok(())
    }
}
