//! Made against another version of the contract than this gateway's: `old-contract/policy.wit`.

#[cfg(target_arch = "wasm32")]
mod guest {
    #![allow(unsafe_code, reason = "generated code")]

    wit_bindgen::generate!({ path: "old-contract", world: "routing-policy" });

    struct Guest;

    impl exports::orchestrator::policy::lifecycle::Guest for Guest {
        fn configure() -> Result<(), String> {
            Ok(())
        }
    }

    impl exports::orchestrator::policy::routing::Guest for Guest {
        fn route() -> Result<(), String> {
            orchestrator::policy::answer::forward(&orchestrator::policy::exchange::path());
            Ok(())
        }
    }

    export!(Guest);
}
