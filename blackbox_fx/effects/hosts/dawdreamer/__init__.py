"""VST2 and LV2 plugins and Faust programs, hosted by dawdreamer."""
