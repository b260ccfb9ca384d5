//! Settings of payments.

use std::path::PathBuf;
use std::time::Duration;

use mosaic::Secret;

mosaic::config! {
    /// The provider, and how long it is waited for.
    pub struct PaymentsConfig in "payments" {
        /// `wechat`, or `embedded`, which speaks its protocol and takes no money; empty: WeChat Pay if there is a merchant id, else in development the embedded one and in production none.
        pub provider: String = "",
        /// Time in which a trade can be paid.
        pub expire_after: Duration = "35m",
        /// Silence after which the provider is asked about a payment.
        pub silent_after: Duration = "5m",
        /// Base URL of WeChat Pay.
        pub wechat_api: String = "https://api.mch.weixin.qq.com",
        /// Where WeChat Pay sends its notifications to: the public URL of `/payments/wechat/notify`.
        pub wechat_notify_url: String = "http://localhost:8080/payments/wechat/notify",
        /// App id that trades are made for.
        pub wechat_app_id: String = "wx-mosaic",
        /// Merchant id.
        pub wechat_merchant_id: String = "",
        /// Serial number of the merchant's certificate.
        pub wechat_merchant_serial: String = "",
        /// The merchant's private key (PEM, PKCS#8 or PKCS#1).
        pub wechat_merchant_key: Option<Secret<String>> = "",
        /// File of the merchant's private key.
        pub wechat_merchant_key_file: Option<PathBuf> = "",
        /// Id of WeChat Pay's public key (`PUB_KEY_ID_...`) or serial number of its certificate.
        pub wechat_platform_serial: String = "",
        /// WeChat Pay's public key (PEM).
        pub wechat_platform_key: String = "",
        /// File of WeChat Pay's public key.
        pub wechat_platform_key_file: Option<PathBuf> = "",
        /// API v3 key: 32 bytes that encrypt notifications.
        pub wechat_api_v3_key: Option<Secret<String>> = "",
        /// Time for one answer of WeChat Pay.
        pub wechat_timeout: Duration = "5s",
        /// Largest bill of a day that is read.
        pub bill_max: mosaic::config::ByteSize = "32MiB",
    }
}
