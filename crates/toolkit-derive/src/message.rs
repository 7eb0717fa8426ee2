//! `#[derive(Message)]`: the name, the version and the key of a message.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitInt, LitStr, Result};

/// What `#[message(…)]` says.
#[derive(Default)]
struct Said {
    name: Option<LitStr>,
    version: Option<LitInt>,
    key: Option<LitStr>,
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let said = said(input)?;
    let ident = &input.ident;
    let name = said.name.ok_or_else(|| {
        let lower = ident.to_string().to_lowercase();
        let text = format!(
            "a message has a name that outlives the Rust type: add #[message(name = \"{lower}\")]"
        );
        Error::new(ident.span(), text)
    })?;
    if name.value().is_empty() {
        return Err(Error::new(name.span(), "the name of a message is not empty"));
    }
    let version = match &said.version {
        Some(version) if version.base10_parse::<u16>()? == 0 => {
            return Err(Error::new(version.span(), "versions begin with 1"));
        }
        Some(version) => quote!(#version),
        None => quote!(1),
    };
    let key = said.key.as_ref().map(|key| key_of(input, key)).transpose()?;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::ottla::Message for #ident #type_generics #where_clause {
            const NAME: &'static str = #name;
            const VERSION: u16 = #version;
            #key
        }
    })
}

fn said(input: &DeriveInput) -> Result<Said> {
    let mut said = Said::default();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("message")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                said.name = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("v") {
                said.version = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("key") {
                said.key = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error("known are: name = \"…\", v = 1, key = \"field\""));
            }
            Ok(())
        })?;
    }
    Ok(said)
}

/// The method `key`, from the field of that name.
fn key_of(input: &DeriveInput, key: &LitStr) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(key.span(), "only a struct has a field for a key"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(key.span(), "the key is a field with a name"));
    };
    let wanted = key.value();
    let field = fields
        .named
        .iter()
        .filter_map(|field| field.ident.as_ref())
        .find(|ident| **ident == *wanted)
        .ok_or_else(|| Error::new(key.span(), format!("there is no field `{wanted}`")))?;
    Ok(quote! {
        fn key(&self) -> ::core::option::Option<::std::borrow::Cow<'_, str>> {
            ::core::option::Option::Some(::std::borrow::Cow::Owned(
                ::std::string::ToString::to_string(&self.#field),
            ))
        }
    })
}
