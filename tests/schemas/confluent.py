"""Confluent's serializers and deserializers: reads what the crate `ottla` wrote in a folder, and writes the same message there."""
import sys
from pathlib import Path

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

PAID = {"order": "o-1", "cents": 123456789012, "items": [{"name": "cup", "count": 2}, {"name": "pot", "count": 1}]}
REGISTERED = {"auto.register.schemas": False, "use.latest.version": True}


def message_class():
    """shop.Paid as the schema has it, without protoc."""
    file = descriptor_pb2.FileDescriptorProto(name="paid.proto", package="shop", syntax="proto3")
    kind = descriptor_pb2.FieldDescriptorProto
    for name, fields in {"Paid": [("order", kind.TYPE_STRING), ("cents", kind.TYPE_INT64), ("items", kind.TYPE_MESSAGE)],
                         "Item": [("name", kind.TYPE_STRING), ("count", kind.TYPE_INT32)]}.items():
        message = file.message_type.add(name=name)
        for number, (field, of) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=of, type_name=".shop.Item" if field == "items" else None,
                              label=kind.LABEL_REPEATED if field == "items" else kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Paid"))


def main(url, folder):
    client, folder = SchemaRegistryClient({"url": url}), Path(folder)
    paid = message_class()

    def text(language):
        return client.get_latest_version(f"{language}-value").schema.schema_str

    languages = {
        "avro": (AvroSerializer(client, text("avro"), conf=REGISTERED), AvroDeserializer(client), PAID),
        "json": (JSONSerializer(text("json"), client, conf=REGISTERED), JSONDeserializer(text("json"), schema_registry_client=client), PAID),
        "protobuf": (ProtobufSerializer(paid, client, {"use.deprecated.format": False}),
                     ProtobufDeserializer(paid, {"use.deprecated.format": False}), json_format.ParseDict(PAID, paid())),
    }
    for language, (serializer, deserializer, message) in languages.items():
        ours = (folder / f"{language}.ottla").read_bytes()
        read = deserializer(ours, SerializationContext(language, MessageField.VALUE))
        if read != message:
            sys.exit(f"{language}: Confluent's client reads {read} instead of {message}")
        if language == "protobuf":  # its serializer wants the registry to translate .proto text, which this one does not: another subject
            theirs = ours[:5] + serializer(message, SerializationContext("theirs", MessageField.VALUE))[5:]
        else:
            theirs = serializer(message, SerializationContext(language, MessageField.VALUE))
        (folder / f"{language}.confluent").write_bytes(theirs)
        print(f"Confluent's client reads and writes {language}", flush=True)


main(*sys.argv[1:])
