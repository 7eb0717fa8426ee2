use super::*;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| u8::try_from((i * i / 7 + i / 100) % 61).unwrap() + b'0').collect()
}

#[test]
fn every_codec_gives_back_what_it_was_given() {
    for codec in CODECS {
        for bytes in [0, 1, 100, 32 << 10, (32 << 10) + 1, 300_000] {
            let plain = text(bytes);
            let compressed = compress(codec, &plain);
            let back = decompress(codec, &compressed, DECOMPRESSED_BYTES_MAX).unwrap();
            assert_eq!(back, plain, "{codec:?} {bytes}");
        }
    }
}

#[test]
fn a_bare_snappy_block_is_understood() {
    let plain = text(100_000);
    let bare = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(decompress(Codec::Snappy, &bare, 1 << 20).unwrap(), plain);
}

#[test]
fn the_cap_is_exact() {
    let plain = text(70_000);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let compressed = compress(codec, &plain);
        assert!(decompress(codec, &compressed, 70_000).is_ok(), "{codec:?}");
        let refused = decompress(codec, &compressed, 69_999);
        assert_eq!(refused, Err(InflateError::TooLarge { bytes_max: 69_999 }), "{codec:?}");
    }
}

#[test]
fn a_bomb_stops_at_the_ratio() {
    let zeros = vec![0; 40 << 20];
    let bomb = compress(Codec::Zstd, &zeros);
    assert!(bomb.len() * OUTPUT_RATIO_MAX < zeros.len(), "a bomb: {} bytes", bomb.len());
    let mut inflater = Inflater::new(Codec::Zstd, &bomb, DECOMPRESSED_BYTES_MAX).unwrap();
    let mut given = 0;
    let refused = loop {
        match inflater.next_piece() {
            Ok(piece) => given += piece.len(),
            Err(error) => break error,
        }
    };
    let bytes_max = output_bytes_max(bomb.len(), DECOMPRESSED_BYTES_MAX);
    assert_eq!(refused, InflateError::TooLarge { bytes_max });
    assert!(given <= bytes_max);
}

#[test]
fn a_snappy_length_that_lies_allocates_nothing() {
    // A bare block that claims 4 GiB - 1 in five bytes.
    let liar = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(matches!(
        decompress(Codec::Snappy, &liar, usize::MAX),
        Err(InflateError::TooLarge { .. })
    ));
    let mut framed = XERIAL_MAGIC.to_vec();
    framed.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1]);
    assert!(matches!(
        decompress(Codec::Snappy, &framed, usize::MAX),
        Err(InflateError::Damaged { .. })
    ));
}

#[test]
fn what_is_cut_short_is_an_error_or_less_than_all() {
    let plain = text(50_000);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let compressed = compress(codec, &plain);
        for cut in 0..compressed.len() {
            if cut % 97 != 0 && cut > 64 {
                continue;
            }
            let part = compressed.get(..cut).unwrap();
            if let Ok(back) = decompress(codec, part, 1 << 20) {
                assert!(back.len() < plain.len(), "{codec:?} cut at {cut}");
            }
        }
    }
}

#[test]
fn names_and_numbers_are_kafkas() {
    for (number, name, codec) in [
        (0, "uncompressed", Codec::None),
        (1, "gzip", Codec::Gzip),
        (2, "snappy", Codec::Snappy),
        (3, "lz4", Codec::Lz4),
        (4, "zstd", Codec::Zstd),
    ] {
        assert_eq!((codec.bits(), codec.name()), (number, name));
        assert_eq!(Codec::of_attributes(number), Some(codec));
        assert_eq!(Codec::named(name), Some(codec));
    }
    assert_eq!(Codec::of_attributes(5), None);
    assert_eq!(Codec::of_attributes(0b10_1000), Some(Codec::None), "other bits do not matter");
}
