// Runs the examples in the documentation of CompreFace's JavaScript client, and prints what the server responds.
//
//     node examples.mjs SDK SERVER PORT API_KEY IMAGE OTHER_IMAGE        (paths of images begin with a dot)

const [sdk, server, port, api_key, image, other_image] = process.argv.slice(2);
const { CompreFace } = await import(sdk);
const { readFileSync } = await import("node:fs");

const options = {
  limit: 0,
  det_prob_threshold: 0.8,
  prediction_count: 1,
  face_plugins: "calculator,age,gender,landmarks,mask",
  status: "true",
};

// The client itself prints, too.
const show = (example, response) => console.log("RESPONSE " + JSON.stringify([example, response]));

const compreFace = new CompreFace(server, port);
const recognitionService = compreFace.initFaceRecognitionService(api_key);
// Some methods of the client change the address in their object, so that each example has its own.
const faceCollection = () => recognitionService.getFaceCollection();
const subjects = () => recognitionService.getSubjects();

const name = encodeURIComponent("Tom");
const added = await faceCollection().add(image, name, { det_prob_threshold: 0.8 });
show("add", added);
show("recognize", await recognitionService.recognize(image, options));
show("list", await faceCollection().list());
show("verify", await faceCollection().verify(image, added.image_id, options));
const base64 = readFileSync(image).toString("base64");
show("recognize base64", await recognitionService.recognize(base64, { limit: 1 }));
show("delete", await faceCollection().delete(added.image_id));
const again = await faceCollection().add(image, name, {});
show("delete multiple", await faceCollection().delete_multiple_images([again.image_id]));
await faceCollection().add(image, name, {});
show("delete all of subject", await faceCollection().delete_all_subject("Tom"));
await faceCollection().add(image, name, {});
show("delete all", await faceCollection().delete_all());

show("add subject", await subjects().add("John"));
show("list subjects", await subjects().list());
show("rename subject", await subjects().rename("John", "Jane"));
show("delete subject", await subjects().delete("Jane"));
await subjects().add("Nick");
show("delete all subjects", await subjects().deleteAll());
const missing = await subjects().delete("Nobody").catch((error) => [error.response.status, error.response.data]);
show("delete nobody", missing);

const detectionService = compreFace.initFaceDetectionService(api_key);
show("detect", await detectionService.detect(image, { det_prob_threshold: 0.8, face_plugins: "landmarks" }));

const verificationService = compreFace.initFaceVerificationService(api_key);
show("verify two", await verificationService.verify(image, other_image, options));
