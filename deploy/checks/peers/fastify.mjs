// The tracker's response from Node.js: what a team might write in an afternoon.
import { randomUUID } from "node:crypto";
import fastify from "fastify";

const program = {
  programId: "212313", programName: "program2", checksum: "124", customerId: 9124,
  customerName: "Customer2",
};
const text = { type: "string" };
const properties = {
  userAgent: text, programId: text, programName: text, checksum: text,
  customerId: { type: "integer" }, customerName: text, messageId: text, valid: { type: "boolean" },
};
const schema = { response: { 200: { type: "object", properties } } };
const server = fastify();
server.get("/:endpoint/:programId", { schema }, (request, reply) => {
  reply.header("cache-control", "no-store");
  const userAgent = request.headers["user-agent"] ?? "";
  reply.send({ userAgent, ...program, messageId: randomUUID(), valid: true });
});
await server.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
