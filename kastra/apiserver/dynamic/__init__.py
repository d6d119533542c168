"""Dynamic admission: rules and calls that users add to what a write passes, by objects of `admissionregistration.k8s.io`.

    kinds       the four kinds, their schemas and what else must hold for them
    matching    does a configuration concern this request?
    expressions CEL over a request: `object`, `oldObject`, `request`, `params`, `namespaceObject`, `authorizer`
    webhooks    asking somebody else: mutating one after the other, validating all at once
    policies    ValidatingAdmissionPolicy: asking an expression
    review      the AdmissionReview that is sent, and what is made of the answer

Source: Kubernetes' dynamic admission control. Nothing here is imported before there is such an object.
"""
