-- Health of a CortexIndex and of a CortexWorkflow for Argo CD: the same verdicts as kstatus, by which Flux and Helm wait.
local status = obj.status or {}
if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "it is being deleted" }
end
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen this generation yet" }
end
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" or condition.type == "Ready" then
    found[condition.type] = condition
  end
end
if found.Reconciling ~= nil then
  return { status = "Progressing", message = found.Reconciling.reason .. ": " .. found.Reconciling.message }
end
if found.Stalled ~= nil then
  return { status = "Degraded", message = found.Stalled.reason .. ": " .. found.Stalled.message }
end
if found.Ready == nil then
  return { status = "Progressing", message = "the operator has not said yet whether it is ready" }
end
local said = found.Ready.reason .. ": " .. found.Ready.message
return { status = found.Ready.status == "True" and "Healthy" or "Progressing", message = said }
