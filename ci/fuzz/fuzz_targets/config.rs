//! A configuration file with anything in it: accepted or refused with a reason, and twice the same.
#![no_main]

use std::ffi::OsStr;
use std::path::Path;

use kedge_config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parse = || Config::parse(text, "fuzz.toml");
    match (parse(), parse()) {
        (Ok(config), Ok(again)) => {
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            if config.node.run_directory.is_none() {
                // The name is one directory in this one, not a way out of it.
                let expected = format!("/run/kedge/{}", config.node.name);
                assert_eq!(config.run_directory(), Path::new(&expected));
                assert_eq!(
                    config.run_directory().file_name(),
                    Some(OsStr::new(&config.node.name))
                );
            }
        }
        (Err(errors), Err(again)) => {
            assert_eq!(errors.to_string(), again.to_string());
            assert!(!errors.to_string().is_empty(), "refused without a reason");
        }
        (first, again) => panic!("{first:?}, then {again:?}"),
    }
});
