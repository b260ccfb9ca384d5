//! Settings of the identity service.

use std::path::PathBuf;
use std::time::Duration;

use mosaic::Secret;

mosaic::config! {
    /// Keys, sessions, codes and partners.
    pub struct IdentityConfig in "identity" {
        /// Directory of the signing keys; empty: `keys` in the data directory.
        pub keys_dir: Option<PathBuf> = "",
        /// Private key in PEM (Ed25519 or RSA) that signs instead of those of the directory; for several instances.
        pub private_key: Option<Secret<String>> = "",
        /// Age at which a key of the directory is replaced.
        pub rotate_after: Duration = "30d",
        /// Time for which a new key is published before it signs.
        pub publish_lead: Duration = "10m",
        /// Is a refresh token good only from the user agent that signed in?
        pub bind_user_agent: bool = "true",
        /// Time in which a refresh token that was just used is refused without ending its session (two tabs at once).
        pub reuse_grace: Duration = "10s",
        /// Time for which ended sessions are kept, to recognise their tokens.
        pub session_kept: Duration = "7d",
        /// Failed sign-ins of one credential that cost no wait.
        pub free_failures: u32 = "5",
        /// Failed sign-ins from one address in ten minutes, after which it has to wait.
        pub failures_per_ip: u64 = "100",
        /// Life of a code.
        pub code_ttl: Duration = "10m",
        /// Time between two codes for one phone.
        pub code_every: Duration = "60s",
        /// Tries of one code.
        pub code_tries: u32 = "3",
        /// Codes that one phone gets a day, whatever for.
        pub codes_per_phone_day: u64 = "10",
        /// Codes that one address may ask for in an hour.
        pub codes_per_ip_hour: u64 = "15",
        /// Codes that the platform sends in an hour: the cap on what an attack can cost.
        pub codes_per_hour: u64 = "10000",
        /// Country codes that codes are sent to.
        pub code_countries: Vec<String> = "86",
        /// App id of WeChat's scan login.
        pub wechat_app_id: String = "wx-mosaic",
        /// Its secret; without one, production has no WeChat doors and development has a simulator behind them.
        pub wechat_app_secret: Option<Secret<String>> = "",
        /// App id of the mini-program, if it is another one.
        pub wechat_mini_app_id: Option<String> = "",
        /// Its secret, if it is another one.
        pub wechat_mini_app_secret: Option<Secret<String>> = "",
        /// Base URL of WeChat's API.
        pub wechat_api: String = "https://api.weixin.qq.com",
        /// Base URL of the page that browsers are sent to.
        pub wechat_connect: String = "https://open.weixin.qq.com",
    }
}
