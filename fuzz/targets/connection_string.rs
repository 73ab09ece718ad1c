#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| party::properties::connection_string(text));
