#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| party::properties::override_url(text));
