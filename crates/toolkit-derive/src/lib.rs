//! Derive macros of the crate `ottla`. Use them from there.

mod message;

use proc_macro::TokenStream;

/// Implements `ottla::Message` for a struct or an enum.
///
/// ```text
/// #[derive(Serialize, Deserialize, Message)]
/// #[message(name = "order.paid", v = 2, key = "order_id")]
/// struct OrderPaid { order_id: String, cents: u64 }
/// ```
///
/// `name` is required. `v` is 1 unless said. `key` names a field that has `Display`; messages with the
/// same key keep their order.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    message::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
