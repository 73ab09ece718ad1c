#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| party::properties::uri_spec(text));
